"How many visitors a served page lets in; `static/voila.json` names it, and only the server imports it"
import psutil
from jupyter_server.auth.identity import PasswordIdentityProvider
from traitlets import Integer
from voila.handler import VoilaHandler

FULL = ('<!DOCTYPE html><title>Full</title><meta name="viewport" content="width=device-width">'
        '<p>Too many people are here at once. Try again in a minute.</p>')


class Door(PasswordIdentityProvider):
    "Lets nobody in where there is no room: each visitor has a kernel, and one with a model takes 900 MB"
    room = Integer(max(2, psutil.virtual_memory().total >> 30), config=True, help='The most kernels at a time')
    coming = frozenset()  # those whose kernel is not counted yet

    async def get_user(self, handler):
        "Who asks; the page itself is for nobody where there is no room"
        user = await super().get_user(handler)
        if not isinstance(handler, VoilaHandler): return user
        self.coming = {o for o in self.coming if not o._finished}
        if len(handler.kernel_manager) + len(self.coming) < self.room: self.coming |= {handler}
        else:
            handler.set_status(503)
            handler.finish(FULL)
        return user
