import argparse, pathlib, sys
import lab, link_check
