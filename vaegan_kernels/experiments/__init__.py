"""The paper's experiments, each a command: ``python -m vaegan_kernels.experiments.NAME --data PATH --out FOLDER``.

NAME: samples (Fig. 3), reconstructions (Fig. 4), attribute_vectors (Fig. 5), attribute_similarity (Table 2, Fig. 6), walk,
stability, celeba (all systems over three seeds, measured), sweep (settings and seeds of your own) and report (the tables of docs/paper.md).
"""
