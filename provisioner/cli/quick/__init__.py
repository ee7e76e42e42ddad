"""The commands that programs wait for most often. They start without click, which starts slower than all that they do."""
