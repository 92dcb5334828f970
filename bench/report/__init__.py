"""`python -m bench.report`: tables and plots of bench/README.md from the result files."""
