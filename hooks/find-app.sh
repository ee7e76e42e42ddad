provisioner_git=${GIT_COMMON_DIR:-${GIT_DIR:-.git}}
if [ -f "$provisioner_git" ]; then
  { read -r provisioner_rest provisioner_git < "$provisioner_git"; } 2>/dev/null || exit 0
fi
[ -d "$provisioner_git" ] || provisioner_git=.
if [ -f "$provisioner_git/commondir" ]; then
  { read -r provisioner_rest < "$provisioner_git/commondir"; } 2>/dev/null || exit 0
  case $provisioner_rest in
    /*) provisioner_git=$provisioner_rest ;;
    *) provisioner_git=$provisioner_git/$provisioner_rest ;;
  esac
fi
[ -f "$provisioner_git/provisioner/app" ] || exit 0
{ read -r provisioner_app < "$provisioner_git/provisioner/app"; } 2>/dev/null || exit 0
case $provisioner_app in '' | *[!0-9a-f-]*) exit 0 ;; esac
