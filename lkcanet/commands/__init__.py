"""The commands of `lkca`, a module each. They import torch and lkcanet inside, so that `lkca --help` is quick."""
