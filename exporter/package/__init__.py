"""One file that a production team can trust and run: how it is packed, described, signed, judged and laid out."""
