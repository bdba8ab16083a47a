"""Tests of the guards of APIs."""
