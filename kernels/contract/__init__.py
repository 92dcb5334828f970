"""The contract: each operation's signature, equation, shapes, errors and checks, once; every engine implements the unchecked form.
A block's backward is other operations in turn, and so is here."""
