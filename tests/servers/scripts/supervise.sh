# Sourced by the script of each server, which says how to prepare, start and recognise it.
#
# A script makes a temporary folder and prints its path, starts the server and prints `ready PORT`. Then it reads
# commands, each answered by one line: `kill` (-9, with its children), `start` (the same folder and port), `stop` and
# `cont` (SIGSTOP and SIGCONT). When its input ends, because its owner closed it or died of whatever cause, it kills the
# server and removes the folder. What can not be done is answered by `failed: ` and a reason.
#
# With `--check` it only says whether the server is installed.

set -uo pipefail
# Ctrl-C and the end of a terminal are the owner's; the end of input tells when it is gone. A reply that it did not live to
# read is no reason to die (PIPE).
trap '' INT TERM HUP QUIT PIPE
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

start_seconds=60
# Below what systems give to outgoing connections, where a client could take the port of a server that is down. A node
# of a Redis cluster takes the port 10000 above its own as well.
port_min=10000
port_count=11000
port_attempts=20

# needs TITLE DEBIAN_PACKAGE BREW_PACKAGE PROGRAM...: all the programs are there, or the script ends saying what to install.
needs() {
  local title=$1 debian=$2 brew=$3 program
  for program in "${@:4}"; do
    if [[ -z $(find_program "$program") ]]; then
      echo "missing: $title ($program is not installed): run ./tests/run as root on Debian," \
        "or: apt-get install $debian, or: brew install $brew"
      exit 1
    fi
  done
}

# The path of the program, or nothing. PostgreSQL's are in a folder by version; the newest wins.
find_program() {
  command -v "$1" && return
  local folder
  for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) /usr/libexec /usr/local/libexec /opt/homebrew/bin; do
    [[ -x $folder/$1 ]] && echo "$folder/$1" && return
  done
}

# Runs the server until input ends. The caller has defined
#   prepare          makes the server's files, in the working folder
#   arguments PORT   sets the array `program` to the command that starts it
#   ready            is true when the server whose process is $server takes connections
#   forget           removes what the server left outside its folder
supervise() {
  folder=$(mktemp -d "${TMPDIR:-/tmp}/tower-keep-$(basename "$0").XXXXXX") || exit 1
  cd "$folder" || exit 1
  echo "$folder"
  # Bash's own words on processes that were killed.
  exec 2>supervise.log
  # These servers refuse to run as root, or should not.
  as_user=(env)
  if [[ $(id -u) == 0 ]]; then
    as_user=(setpriv "--reuid=$(id -u nobody)" "--regid=$(id -g nobody)" --clear-groups)
    chown "$(id -u nobody):$(id -g nobody)" "$folder"
  fi

  # On a busy machine MariaDB's installation has failed once in a while, and never twice.
  if ! { prepare || { rm -rf data && prepare; }; } </dev/null >log 2>&1; then
    echo "failed: its files can not be made"
  elif ! start_on_a_free_port; then
    echo "failed: it does not start"
  else
    echo "ready $port"
  fi

  local command
  while read -r command; do
    case $command in
      kill) kill_family && echo done ;;
      stop) pause_family && echo done ;;
      cont) signal_family CONT && echo done ;;
      start) if start_again; then echo "ready $port"; else echo "failed: it does not start again"; fi ;;
      *) echo "failed: unknown command: $command" ;;
    esac
  done

  kill_family
  forget
  cd / && rm -rf "$folder"
}

# Nobody can hold a port for a server that is not started yet: try, and take another if somebody else has it. The first
# goes by the number that the owner gives each of its servers, so that none takes the port of another that is down.
start_on_a_free_port() {
  local attempt number=${TOWER_KEEP_SERVER_NUMBER:-$RANDOM}
  for ((attempt = 0; attempt < port_attempts; attempt++)); do
    port=$((port_min + number % port_count))
    number=$RANDOM
    start && return
    grep -qiE 'in use|could not bind|failed to listen' log || return 1
  done
  return 1
}

start_again() {
  is_running && return
  start || start || start
}

start() {
  program=()
  arguments "$port"
  # Emptied here, not by the process that begins: `ready` must not find what the last one wrote.
  : >log
  "${as_user[@]}" "${program[@]}" </dev/null >>log 2>&1 &
  server=$!
  local deadline=$((SECONDS + start_seconds))
  until ready 2>/dev/null; do
    is_running || return 1
    ((SECONDS < deadline)) || { kill_family && return 1; }
    sleep 0.02
  done
}

# The server is this script's only job.
is_running() {
  [[ -n $(jobs -rp) ]]
}

# Its process and those that it forked.
family() {
  is_running || return 0
  echo "$server"
  cat "/proc/$server/task/$server/children" 2>/dev/null || pgrep -P "$server"
}

signal_family() {
  local process
  for process in $(family); do
    kill "-$1" "$process" 2>/dev/null
  done
  return 0
}

# Until a thread of its own has taken the signal, a process goes on, and may fork another.
pause_family() {
  signal_family STOP
  while is_awake; do
    sleep 0.01
    signal_family STOP
  done
}

is_awake() {
  local process states
  for process in $(family); do
    states=$(grep -hs '^State:' "/proc/$process/task/"*/status)
    [[ -n $states ]] && grep -qv ':[[:space:]]*[TtZX]' <<<"$states" && return
  done
  return 1
}

kill_family() {
  # What is stopped forks no more.
  pause_family
  local process processes
  processes=$(family)
  for process in $processes; do
    kill -KILL "$process" 2>/dev/null
  done
  wait
  for process in $processes; do
    while is_alive "$process"; do sleep 0.01; done
  done
  return 0
}

# A dead process may stay as a zombie where nobody collects orphans.
is_alive() {
  kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# Most servers leave nothing outside their folder.
forget() { :; }
