#!/usr/bin/env bash
# setup_system.sh [fuzz]: installs the Debian packages that are missing, for the build or for the fuzz targets; through
# sudo where the user is not root.
set -euo pipefail
packages=(g++ make ninja-build ccache pkg-config git python3-venv libhwy-dev nlohmann-json3-dev libcli11-dev
  libspdlog-dev libtomlplusplus-dev libpcre2-dev libutf8proc-dev libssl-dev libgtest-dev libgmock-dev)
if [ "${1:-}" = fuzz ]; then packages=(clang libclang-rt-dev); fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y "${missing[@]}")
"${install[@]}" >/dev/null 2>&1 || {
  "${as_root[@]}" apt-get -qq update
  "${install[@]}" >/dev/null
}
