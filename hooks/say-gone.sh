if ! { [ -x "$provisioner_python" ] && [ -r "$provisioner_handover" ]; }; then
  provisioner_said=$provisioner_git/provisioner/said-gone
  [ -n "$(find "$provisioner_said" -mtime -1 2>/dev/null)" ] && exit 0
  { printf '' > "$provisioner_said"; } 2>/dev/null || @UNSAID@
  echo "provisioner: the installation that this hook runs is gone ($provisioner_handover): databases do not follow this repository's branches. Install provisioner (uv tool install timeline-provisioner), then run: provisioner hooks install. Without it, delete this hook's lines from $0." >&2
  exit 0
fi
