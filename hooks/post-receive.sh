[ "${PROVISIONER_SKIP:-}" = 1 ] && exit 0
provisioner_python=@PYTHON@
provisioner_home=@HOME@
provisioner_handover=@HANDOVER@
@FIND_APP@
@SAY_GONE@
@EXEC@"$provisioner_python" -E -P -S "$provisioner_handover" receive "$provisioner_home" "$provisioner_app"
exit 0
