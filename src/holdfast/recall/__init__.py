"""How recall finds: embedders, rerankers and the recipe that makes one order of two legs."""
