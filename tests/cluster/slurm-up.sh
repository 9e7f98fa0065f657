#!/usr/bin/env bash
# Starts a private Slurm of four nodes on this one machine, on loopback, without systemd: for `make test-cluster`.
#
#   sudo tests/cluster/slurm-up.sh ; . "${SLURM_ROOT:-/tmp/lora-bench-slurm}/env.sh"
#
# Needs Debian (or Ubuntu) and root; installs what is missing. A second call finds everything up and changes nothing.
# Ports 26600 to 26999; all state is below SLURM_ROOT. slurm-down.sh stops it.
set -euo pipefail
R=${SLURM_ROOT:-/tmp/lora-bench-slurm}
HOST=$(hostname -s)
export SLURM_CONF=$R/etc/slurm.conf MYSQL_UNIX_PORT=$R/run/mysql/sock

# A process of that name and no zombie: in a container nobody may reap what has ended.
alive() {
  local pid
  [ -s "$1" ] && pid=$(cat "$1") && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] \
    && [ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c1)" != Z ]
}

wait_for() { # seconds, command...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "slurm-up: '$*' has not come true; see $R/log" >&2; exit 1; }
    sleep 0.05
  done
}

missing=()
for package in slurmctld slurmd slurm-client munge slurmdbd slurm-wlm-mysql-plugin mariadb-server; do
  [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  # The packages' own scripts are to start nothing.
  made=0
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; made=1; }
  installed=0
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null || installed=69 # EX_UNAVAILABLE
  [ "$made" = 0 ] || rm -f /usr/sbin/policy-rc.d
  [ "$installed" = 0 ] || { echo "slurm-up: cannot install ${missing[*]}" >&2; exit "$installed"; }
fi

umask 022
mkdir -p "$R"/{etc,log,run,state,spool,munge,mysql,dev}
# Elsewhere than on loopback it would bind otherwise.
getent ahostsv4 "$HOST" | grep -q '^127\.' || echo "127.0.0.1 $HOST" >>/etc/hosts
for i in 0 1; do [ -e "$R/dev/gpu$i" ] || ln -s /dev/null "$R/dev/gpu$i"; done

if ! alive "$R/run/slurmctld.pid" slurmctld; then
  cat >"$R/etc/slurm.conf" <<CONF
ClusterName=toy
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=26600
SlurmdPort=26611
SrunPortRange=26700-26999
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# How long a requeued job waits; must be longer than KillWait + 4, else its old steps are still there.
AuthInfo=socket=$R/run/munge.socket,cred_expire=8
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$R/state
SlurmdSpoolDir=$R/spool/%n
SlurmctldPidFile=$R/run/slurmctld.pid
SlurmdPidFile=$R/run/slurmd.%n.pid
SlurmctldLogFile=$R/log/slurmctld.log
SlurmdLogFile=$R/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=256
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=100000
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
EnforcePartLimits=ALL
KillWait=2
MinJobAge=300
InactiveLimit=0
CompleteWait=0
EpilogMsgTime=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26601
AccountingStoragePass=$R/run/munge.socket
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
NodeName=n[1-4] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[26611-26614] CPUs=2 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n[1-4] Default=YES DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
PartitionName=low Nodes=n[1-4] Default=NO DefaultTime=10 MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
CONF
  echo "NodeName=n[1-4] Name=gpu File=$R/dev/gpu[0-1]" >"$R/etc/gres.conf"
fi

if ! alive "$R/run/munged.pid" munged; then
  [ -s "$R/munge/munge.key" ] || head -c 128 /dev/urandom >"$R/munge/munge.key"
  chmod 700 "$R/munge"; chmod 600 "$R/munge/munge.key"; rm -f "$R/run/munge.socket"*
  munged --key-file="$R/munge/munge.key" --socket="$R/run/munge.socket" --pid-file="$R/run/munged.pid" \
    --log-file="$R/log/munged.log" --seed-file="$R/munge/seed" --num-threads=4 --force
  wait_for 10 munge -n -S "$R/run/munge.socket"
fi

if ! alive "$R/run/mariadb.pid" mariadbd; then
  chown -R mysql:mysql "$R/mysql"; install -d -o mysql -g mysql "$R/run/mysql"
  [ -d "$R/mysql/mysql" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$R/mysql" --skip-test-db \
    --auth-root-authentication-method=socket >"$R/log/mariadb-install.log" 2>&1
  touch "$R/log/mariadb.log"; chown mysql "$R/log/mariadb.log"
  setsid nohup mariadbd --no-defaults --user=mysql --datadir="$R/mysql" --socket="$MYSQL_UNIX_PORT" --skip-networking \
    --pid-file="$R/run/mysql/pid" --log-error="$R/log/mariadb.log" --innodb-buffer-pool-size=64M \
    --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 </dev/null >/dev/null 2>&1 &
  echo $! >"$R/run/mariadb.pid"
  wait_for 30 mariadb-admin --no-defaults --socket="$MYSQL_UNIX_PORT" ping
fi

if ! alive "$R/run/slurmdbd.pid" slurmdbd; then
  cat >"$R/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$R/run/munge.socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=26601
SlurmUser=root
LogFile=$R/log/slurmdbd.log
PidFile=$R/run/slurmdbd.pid
CommunicationParameters=NoInAddrAny
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
CONF
  chmod 600 "$R/etc/slurmdbd.conf"
  slurmdbd
  wait_for 30 sacctmgr -n list cluster
  sacctmgr -n list cluster format=cluster | grep -qw toy || sacctmgr -i -Q add cluster toy >/dev/null
fi

alive "$R/run/slurmctld.pid" slurmctld || slurmctld -i
wait_for 20 sh -c "scontrol ping | grep -q UP"
for i in 1 2 3 4; do
  mkdir -p "$R/spool/n$i"
  alive "$R/run/slurmd.n$i.pid" slurmd || slurmd -N "n$i"
done
for i in 1 2 3 4; do
  case "$(sinfo -h -N -n "n$i" -o %t | head -1)" in down* | drain* | drng*) scontrol update nodename="n$i" state=resume || true ;; esac
done
wait_for 20 sh -c "[ \$(sinfo -h -N -p main -t idle,mix,alloc -o %N | wc -l) -eq 4 ] && ! sinfo -h -N -p main -o %t | grep -q '\*'"
echo "export SLURM_ROOT=$R SLURM_CONF=$SLURM_CONF" >"$R/env.sh"
echo "Slurm is up: . $R/env.sh"
