#!/usr/bin/env bash
# Try this checkout on a machine with nothing but Python, make and git: a Debian made by debootstrap in a temporary
# folder. As root: tools/bare_machine.sh trixie|sid [MIRROR]. Sets up, then doctor, a short training, one prediction and
# one export; prints how long each took. The checkout's committed files are used. 12 GB of disk, 10 minutes.
set -euo pipefail
SUITE=${1:?usage: tools/bare_machine.sh SUITE [MIRROR]}
MIRROR=${2:-}
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo 'bare_machine: needs root, for debootstrap and chroot' >&2; exit 2; }
command -v debootstrap >/dev/null || { echo 'bare_machine: needs debootstrap: apt-get install debootstrap' >&2; exit 2; }
ROOT=$(mktemp -d "${TMPDIR:-/tmp}/bare_$SUITE.XXXXXX")
cleanup() {
    umount -l "$ROOT/proc" "$ROOT/dev/shm" "$ROOT/dev" 2>/dev/null || true
    rm -rf --one-file-system "$ROOT"
}
trap cleanup EXIT

step() { # TITLE COMMAND...: run in the new system, its output in a log
    local title=$1 start=$SECONDS log="$ROOT/root/step.log"
    shift
    if chroot "$ROOT" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" "${PASSED[@]}" \
        bash -c "cd /root/checkout && $*" >"$log" 2>&1; then
        echo "bare_machine: $SUITE: $title: $((SECONDS - start)) s"
        if grep -n 'gcc: not found\|Traceback' "$log"; then
            echo "bare_machine: $SUITE: $title prints lines of other programs" >&2
            exit 1
        fi
    else
        echo "bare_machine: $SUITE: $title failed:" >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
}

echo "bare_machine: $SUITE: making the system"
debootstrap --variant=minbase --include=python3,python3-venv,make,git,ca-certificates "$SUITE" "$ROOT" $MIRROR \
    >"$ROOT.log" 2>&1 || { tail -n 5 "$ROOT.log" >&2; exit 1; }
rm -f "$ROOT.log"
mount --bind /proc "$ROOT/proc"
mount --bind /dev "$ROOT/dev"
mkdir -p "$ROOT/root/checkout"
git archive HEAD | tar -x -C "$ROOT/root/checkout"
# the way to the network is this machine's
cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$ROOT/etc/pip.conf"
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/"
PASSED=()
while IFS= read -r line; do PASSED+=("$line"); done < <(env | grep -E '^(PIP_|SSL_CERT_|https?_proxy=|HTTPS?_PROXY=)' || true)

chroot "$ROOT" python3 --version
step 'make setup' make setup
step 'doctor' .venv/bin/python tools/doctor.py
chroot "$ROOT" bash -c "! ls /usr/lib/*/libGL.so.1 2>/dev/null && ! command -v gcc" >/dev/null
step 'data' .venv/bin/fastervit make-shapes work_dirs/shapes --train 8 --val 4 --size 96 128
QUICK='--cfg-options train_cfg.max_epochs=1 train_dataloader.num_workers=0 train_dataloader.persistent_workers=False
    val_dataloader.num_workers=0 val_dataloader.persistent_workers=False'
step 'training' SHAPES_ROOT=work_dirs/shapes .venv/bin/fastervit train cascade_shapes --work-dir work_dirs/run $QUICK
step 'prediction' .venv/bin/fastervit predict cascade_shapes work_dirs/run work_dirs/shapes/images/val \
    --threshold 0 --out work_dirs/predictions
step 'export' .venv/bin/fastervit export cascade_shapes work_dirs/run --size 96x128 --out work_dirs/exported
echo "bare_machine: $SUITE: all passed"
