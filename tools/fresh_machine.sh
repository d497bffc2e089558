#!/usr/bin/env bash
# What a newcomer's machine does with this tree. See --help.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
tools/fresh_machine.sh [OPTION…] [bookworm|trixie] TARGET…

Runs `make TARGET…` on the committed tree (HEAD) in a Debian 12 (bookworm, the default) or 13 (trixie) that has nothing
installed but make, as root in a chroot. Needs root and the package debootstrap. What make takes may follow: JOBS=1, -k.
Ends with make's exit code, after a line of seconds and megabytes.

  --folder DIR      where the systems live; default: $FRESH_DIR, else build/fresh. Each release is bootstrapped once into
                    DIR/base-RELEASE and copied anew to DIR/RELEASE for every run
  --keep            leave DIR/RELEASE when done
  --again           go on in DIR/RELEASE as a run with --keep left it, with what is committed now, and keep it
  --shell           a shell there instead of make (with --again: to look at what failed)
  --mirror URL      Debian's mirror; default: the first one that this machine's apt has, else deb.debian.org
  --ccache DIR      share this compiler cache with the runs
  --pip-cache DIR   share pip's cache of downloads with the runs

Which torch (default: what the Makefile takes by itself):
  --pip-args TEXT   PIP_ARGS of the Makefile
  --wheels DIR      pip finds the wheels of this folder, too
  --libtorch DIR    an installed libtorch: Torch_DIR of the Makefile

Of this machine's settings the run gets: apt's proxy and checks, the name server, proxies and certificates, and of pip's
settings the index, proxy and timeouts, but no folders of wheels. Mounts live in a name space of their own and end with
the run however it ends.

  tools/fresh_machine.sh trixie build
  tools/fresh_machine.sh --ccache ~/.cache/fresh-ccache --wheels ~/wheels bookworm demo
TEXT
}

die() {
  echo "error: [fresh_machine] $1" >&2
  exit 2
}

release=bookworm folder=${FRESH_DIR:-build/fresh} code=0 again='' keep='' shell='' mirror='' ccache='' pip_cache=''
pip_args='' wheels='' libtorch=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --again) again=yes keep=yes ;;
    --keep) keep=yes ;;
    --shell) shell=yes ;;
    --folder | --mirror | --ccache | --pip-cache | --pip-args | --wheels | --libtorch)
      [ $# -gt 1 ] || die "expected a value after $1, got none"
      name=${1#--} value=$2
      case $name:$value in
        mirror:* | pip-args:* | *:/* | *:) ;;
        *) value=$(realpath -m "$here/$value") ;;
      esac
      printf -v "${name//-/_}" %s "$value"
      shift
      ;;
    bookworm | trixie) release=$1 ;;
    --*) die "expected an option of --help, got '$1'" ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || [ -n "$shell" ] || die "expected a target of make, got none; try --help"
[ "$(id -u)" -eq 0 ] || die "expected root, got another user; try sudo"

# Mounts are made in a name space of the run's own and are gone with its last process, before anything is removed.
if [ "${FRESH_INSIDE:-}" != "$PPID" ]; then
  options=("--folder" "$folder" "--mirror" "$mirror" "--ccache" "$ccache" "--pip-cache" "$pip_cache"
    "--pip-args" "$pip_args" "--wheels" "$wheels" "--libtorch" "$libtorch")
  for flag in again shell; do [ -z "${!flag}" ] || options+=("--$flag"); done
  unshare --mount --pid --fork --kill-child bash -c 'FRESH_INSIDE=$$ "$@"; exit $?' - "tools/${0##*/}" "${options[@]}" \
    "$release" "$@" <&0 &
  run=$!
  trap 'kill -KILL "$run"; wait "$run" || true' INT TERM HUP # and all that it started ends with it
  wait "$run" || code=$?
  [ -n "$keep" ] || rm -rf --one-file-system "${folder:?}/$release"
  exit "$code"
fi
mount --make-rprivate /

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
base=$folder/base-$release root=$folder/$release
start=$SECONDS

if [ -z "$mirror" ]; then
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    grep -v security | head -n 1) || true
  mirror=${mirror:-http://deb.debian.org/debian}
fi

if [ ! -d "$base" ]; then
  command -v debootstrap >/dev/null || die "expected the package debootstrap, got none; try apt-get install debootstrap"
  echo "fresh_machine: bootstrapping $release from $mirror"
  rm -rf "$base.part"
  debootstrap --variant=minbase --include=make "$release" "$base.part" "$mirror" >"$folder/bootstrap-$release.log" ||
    die "expected a bootstrapped $release, got what $folder/bootstrap-$release.log says"
  mv "$base.part" "$base"
fi

if [ -z "$again" ] || [ ! -d "$root" ]; then
  rm -rf "$root"
  cp -a --reflink=auto "$base" "$root"
fi

# This machine's ways to the outside.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::|Check-|Retries)' >"$root/etc/apt/apt.conf.d/99host" || true
inside=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "TERM=${TERM:-dumb}")
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [ -z "${!name:-}" ] || inside+=("$name=${!name}")
done
settings=$(python3 -m pip config list 2>/dev/null || true)
bundle=$(sed -nE "s/^[^=]*\.cert='(.*)'$/\1/p" <<<"$settings" | tail -n 1)
bundle=${SSL_CERT_FILE:-${bundle:-/etc/ssl/certs/ca-certificates.crt}}
if [ -f "$bundle" ]; then
  cp -L "$bundle" "$root/etc/host-certificates.crt"
  for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do
    inside+=("$name=/etc/host-certificates.crt")
  done
fi
{
  echo "[global]"
  sed -nE "s/^[^=]*\.(index-url|proxy|trusted-host|timeout|default-timeout|retries)='(.*)'$/\1 = \2/p" <<<"$settings"
} >"$root/etc/pip.conf"

for place in proc sys dev; do mkdir -p "$root/$place"; done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
share() { # FOLDER NAME MODE: a folder of this machine as /NAME there
  [ -n "$1" ] || return 0
  [ "$3" = ro ] || mkdir -p "$1"
  [ -d "$1" ] || die "expected a folder, got '$1'"
  mkdir -p "$root/$2"
  mount --bind "$1" "$root/$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$root/$2"
}
share "$ccache" ccache rw
share "$pip_cache" pip-cache rw
share "$wheels" wheels ro
share "$libtorch" libtorch ro
# As caches of several clones are set up: paths below the tree do not count, precompiled headers do not prevent hits.
[ -z "$ccache" ] || inside+=(CCACHE_DIR=/ccache CCACHE_BASEDIR=/espalier CCACHE_NOHASHDIR=1
  CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime)
[ -z "$pip_cache" ] || inside+=(PIP_CACHE_DIR=/pip-cache)
[ -z "$wheels" ] || inside+=(PIP_FIND_LINKS=/wheels)
[ -z "$libtorch" ] || set -- "$@" Torch_DIR=/libtorch/share/cmake/Torch
[ -z "$pip_args" ] || set -- "$@" "PIP_ARGS=$pip_args"

# A clone, since the text rules ask git which files there are; what was built there stays.
tree=$root/espalier
rm -rf "$tree/.git" "$tree.new"
git clone --quiet --depth 1 "file://$PWD" "$tree.new"
if [ -d "$tree" ]; then
  mv "$tree.new/.git" "$tree/.git"
  git -C "$tree" update-index -q --refresh >/dev/null || true # or files that did not change would look new to make
  git -C "$tree" reset --quiet --hard
  git -C "$tree" clean --quiet -fd
  rm -rf "$tree.new"
else
  mv "$tree.new" "$tree"
fi

in_root() { chroot "$root" /usr/bin/env -i "${inside[@]}" /bin/sh -c 'cd /espalier && exec "$@"' - "$@"; }
if [ -n "$shell" ]; then
  in_root /bin/bash || code=$?
else
  echo "fresh_machine: $release $(git -C "$tree" log -1 --format=%h), make $*"
  in_root make "$@" || code=$?
fi
shared=(--exclude="$root"/{ccache,pip-cache,wheels,libtorch})
megabytes() { du -sxm "${shared[@]}" "$@" 2>/dev/null | awk '{sum += $1} END {print sum + 0}'; }
echo "fresh_machine: $release, make $*: code $code, $((SECONDS - start)) s," \
  "$(megabytes "$root") MB on the disk: $(megabytes "$base") of the bare system," \
  "$(megabytes "$tree/.venv") in .venv, $(megabytes "$tree/build") in build"
exit "$code"
