"""Training in slices on a lent card that has torch, numpy and Pillow and nothing else.

`pack` fills a folder on the machine at home, `python -m wsicodec.train.card` trains from it for
some minutes, `collect` turns what came back into run folders. What runs on the card lives beside
this file and imports nothing else; `packing` and `collecting` stay at home.
"""
