#!/bin/bash
# small|full run in the scratch copy with invented tables
cd /root/dev/scratch05
cp -r /work/switch/medtl_utils .
cp /work/switch/notebooks/GLOSSARY.md notebooks/
/work/main/.venv/bin/python /root/dev/build05.py notebooks/05_fine_tune_resnet.ipynb $1
/work/main/.venv/bin/ruff format -q --config /work/switch/pyproject.toml notebooks/05_fine_tune_resnet.ipynb
PYTHONPATH=/root/dev/scratch05 OMP_NUM_THREADS=1 nice -n 2 /work/main/.venv/bin/python notebooks/execute.py refresh 05
