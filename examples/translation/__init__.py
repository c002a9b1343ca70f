"""English to French by one small network, compared with a phrase table and the nearest sentence."""
