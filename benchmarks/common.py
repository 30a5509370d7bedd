"What the benchmarks share: words of the command line, tables in Markdown, and numbers with their spread"
import statistics, sys


def words(doc):
    "The words after the script's name; with --help, `doc` is printed and that is all"
    if {'-h', '--help'} & {*sys.argv[1:]}: sys.exit(print(doc))
    return sys.argv[1:]


def need_weights(arch='squeezenet1_0'):
    "Stop with a sentence if the pretrained weights are not on this machine"
    from bearclf.train.bodies import weights_file
    file = weights_file(arch)
    if not file.exists(): sys.exit(f'{file.name} is not on this machine. Set TORCH_HOME to the folder that holds it.')


def row(*cells): print('| ' + ' | '.join(map(str, cells)) + ' |')


def heading(*cells): row(*cells); row(*['---']*len(cells))


def spread(values, f='{:.1f}', middle=statistics.mean):
    "The mean, or another middle, with the least and the largest"
    return ' '.join([f.format(middle(values)), f'({f.format(min(values))} to {f.format(max(values))})'])


def interval(values, f='{:.1f}'):
    "Mean, and the 95 % t-interval over seeds"
    from scipy.stats import t
    if len(values) < 2: return ' '.join(map(f.format, values)) or '-'
    mean, half = statistics.mean(values), t.ppf(.975, len(values)-1)*statistics.stdev(values)/len(values)**.5
    return f'{f.format(mean)} ({f.format(mean-half)} to {f.format(mean+half)})'
