# A wake-up costs no process while a daemon or a worker runs: an empty file is made, and that one finds it.
[ "${PROVISIONER_SKIP:-}" = 1 ] && exit 0
@ONLY_COMMITTED@
provisioner_python=@PYTHON@
provisioner_home=@HOME@
provisioner_handover=@HANDOVER@
@FIND_APP@
@SAY_GONE@
@ONLY_BRANCHES@
@SAY_STALE@
if ! { printf '' > "$provisioner_home/inbox/$provisioner_app"; } 2>/dev/null; then
  [ -d "$provisioner_home" ] || exit 0
  echo "provisioner: $(id -un) may not write to $provisioner_home: databases do not follow this repository's branches. Give that user the directory, or run 'provisioner watch' as its owner." >&2
  exit 0
fi
@IN_FOREGROUND@
for provisioner_who in daemon worker; do
  if read -r provisioner_pid provisioner_start provisioner_rest < "$provisioner_home/$provisioner_who"; then
    if [ -d /proc/self ]; then
      if read -r provisioner_stat < "/proc/$provisioner_pid/stat"; then
        set -- ${provisioner_stat##*) }
        [ "${20}" = "$provisioner_start" ] && exit 0
      fi
    else
      kill -0 "$provisioner_pid" && exit 0
    fi
  fi
done 2>/dev/null
"$provisioner_python" -E -P -S "$provisioner_handover" drain "$provisioner_home" </dev/null >/dev/null 2>&1 &
exit 0
