"`python -m bearclf` is the `bearclf` command; `doctor` works also where a package is missing that the command needs"
import sys


def main():
    try: from .cli import main as command
    except Exception as e:  # whatever a broken package does
        if sys.argv[1:2] == ['doctor']:
            from .train.machine import doctor
            return print(doctor())
        print(f'bearclf cannot start: {e}. What is to be done says: bearclf doctor', file=sys.stderr)
        return 1
    return command()


if __name__ == '__main__': sys.exit(main())
