"""The contract: each operation's signature, equation, shapes, errors and checks, once; every engine implements the unchecked form."""
