"Who is let in to a served page, and when a visitor's kernel ends; `static/voila.json` names both classes"
import os, time
from pathlib import Path

import psutil
from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Integer
from voila.handler import VoilaHandler

FULL = ('<!DOCTYPE html><title>Full</title><meta name="viewport" content="width=device-width">'
        '<p>Too many people are here at once. Try again in a minute.</p>')


def memory():
    "Bytes that this machine has, or that a container gives to us"
    limits = [Path(o) for o in ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')]
    given = [int(o.read_text()) for o in limits if o.is_file() and o.read_text().strip().isdigit()]
    return min([psutil.virtual_memory().total, int(os.environ.get('MEM_LIMIT') or 1 << 60), *given])


class Kernels(AsyncMappingKernelManager):
    "Ends the kernel of a visitor who never came for it, has left without a word, or has long done nothing"
    unmet = Integer(120, config=True, help='Seconds until a kernel ends whose page nobody has opened')
    left = Integer(180, config=True, help='Seconds until the kernel of somebody who has left ends')
    idle = Integer(3600, config=True, help='Seconds without a word until the kernel of an open page ends')

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pages, self.alone, self.met = set(), {}, set()

    async def start_kernel(self, *args, **kwargs):
        "Those of pages only are ours to end: JupyterLab may be on the same server"
        kernel = await super().start_kernel(*args, **kwargs)
        if 'VOILA_PREHEAT' in (kwargs.get('env') or {}): self.pages.add(kernel)
        return kernel

    def notify_connect(self, kernel_id):
        self.met.add(kernel_id)
        super().notify_connect(kernel_id)

    async def cull_kernel_if_idle(self, kernel_id):
        "Voilà asks this of kernels that are with a visitor, not of the one that waits for the next"
        if kernel_id not in self.pages: return await super().cull_kernel_if_idle(kernel_id)
        now, kernel = time.monotonic(), self._kernels[kernel_id]
        if self._kernel_connections.get(kernel_id) or kernel.execution_state != 'idle': self.alone.pop(kernel_id, 0)
        else: self.alone.setdefault(kernel_id, now)
        late = now - self.alone.get(kernel_id, now) > (self.left if kernel_id in self.met else self.unmet)
        silent = time.time() - kernel.last_activity.timestamp() > self.idle and kernel_id in self.met
        if late or silent or kernel.execution_state == 'dead': await self.shutdown_kernel(kernel_id)

    def remove_kernel(self, kernel_id):
        for o in self.pages, self.met: o.discard(kernel_id)
        self.alone.pop(kernel_id, 0)
        return super().remove_kernel(kernel_id)

    def size_of(self, kernel_id):
        "Bytes of memory that a kernel takes now"
        try: return psutil.Process(self._kernels[kernel_id].provisioner.pid).memory_info().rss
        except (psutil.Error, AttributeError, KeyError): return 0  # it has ended, or is not there yet

    def have_room(self, coming):
        "Is there memory for one more page, when `coming` kernels are not there yet? A third is for all else"
        sizes = {o: self.size_of(o) for o in self.list_kernel_ids()}
        each = max([200e6, *(sizes[o] for o in self.pages & {*sizes})])  # one that begins will be as large
        taken = sum(max(size, each*(o in self.pages)) for o, size in sizes.items())
        return len(sizes) + coming < 2 or taken + each*(coming + 1) <= memory()*2/3


class Door(PasswordIdentityProvider):
    "Lets nobody in where there is no room: each visitor has a kernel"
    room = Integer(0, config=True, help='The most kernels at a time; 0: as many as there is memory for')
    coming = frozenset()  # those whose kernel is not counted yet

    async def get_user(self, handler):
        "Who asks; the page itself is for nobody where there is no room"
        user = await super().get_user(handler)
        if not isinstance(handler, VoilaHandler): return user
        self.coming, kernels = {o for o in self.coming if not o._finished}, handler.kernel_manager
        if self.room: room = len(kernels) + len(self.coming) < self.room
        else: room = getattr(kernels, 'have_room', lambda _: True)(len(self.coming))
        if room:
            self.coming |= {handler}
            handler.current_user = user
            if not handler.settings.get('disable_check_xsrf'): handler.xsrf_token  # a cookie: a page that ends shows it
        else:
            handler.set_status(503)
            handler.finish(FULL)
        return user
