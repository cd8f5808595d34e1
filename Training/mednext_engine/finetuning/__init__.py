"""From drawn segments to a model: cases, checks, plan, training, model folder.

A job folder (`job`) says what is wanted and names the cases; nothing in it is trusted. Importing
this package imports neither torch nor SimpleITK.
"""
