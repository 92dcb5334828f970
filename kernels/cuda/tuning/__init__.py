"""Measuring other tiles on the GPU at hand and keeping the fastest."""
