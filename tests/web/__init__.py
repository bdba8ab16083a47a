"""Tests of the page of the development server; those in a browser need Chromium."""
