package devcluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/chainstore/chainstore/internal/roles"
)

// Processes starts roles as child processes of a chainstore executable. The children end with this process, however it
// ends: the kernel kills them (PR_SET_PDEATHSIG) when the thread that started them ends. So one locked thread starts
// them all and lives until Close.
type Processes struct {
	executable string
	calls      chan func() // for the locked thread
	ended      chan struct{}
}

// NewProcesses returns a launcher of an executable. Close must be called.
func NewProcesses(executable string) *Processes {
	p := &Processes{executable: executable, calls: make(chan func()), ended: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(p.ended)
		for call := range p.calls {
			call()
		}
	}()
	return p
}

// Close ends the launcher. It kills the children that still run.
func (p *Processes) Close() {
	close(p.calls)
	<-p.ended
}

// Launch starts a role. A role that cannot open its folder or ports ends soon after.
func (p *Processes) Launch(t Topology, r Role, tokens Tokens) (*Running, error) {
	log, err := openLog(r)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	line := slices.Concat(r.Enter, []string{p.executable}, arguments(t, r))
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(environment(), "CHAINSTORE_CLUSTER_TOKEN="+tokens.Cluster, "CHAINSTORE_ADMIN_TOKEN="+tokens.Admin)
	cmd.Stdout, cmd.Stderr = log, log
	// In a process group of its own the child does not get Ctrl-C from the terminal: this process stops it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	p.calls <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", r.Name, err)
	}
	c := &Running{name: r.Name, process: cmd.Process, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if err := cmd.Wait(); err != nil {
			c.err = fmt.Errorf("%s: %w: %s", r.Name, err, LastLine(r.Log))
		}
	}()
	return c, nil
}

// environment returns the environment of this process, without the variables of a role.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CHAINSTORE_") })
}

// arguments returns the command line of a role.
func arguments(t Topology, r Role) []string {
	args := []string{string(r.Kind), "--log-level=" + t.LogLevel}
	if r.Secrets.Cluster != "" {
		args = append(args, "--cluster-token-file="+r.Secrets.Cluster)
	}
	if r.Profiles != "" {
		args = append(args, "--pprof="+r.Profiles)
	}
	master, worker := t.master(r, Tokens{}), t.worker(r, Tokens{})
	var flags, defaults []roles.Flag
	switch r.Kind {
	case KindMaster:
		initial := roles.DefaultMaster()
		flags, defaults = master.Flags(), initial.Flags()
	case KindStorage:
		initial := roles.DefaultStorage()
		flags, defaults = worker.StorageFlags(), initial.StorageFlags()
	case KindMiner:
		initial := roles.DefaultMiner()
		flags, defaults = worker.MinerFlags(), initial.MinerFlags()
	}
	return append(args, roles.Args(flags, defaults)...)
}

// LastLine returns the last line of a log file: why a role that failed has ended.
func LastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	data = bytes.TrimSpace(data)
	return string(data[bytes.LastIndexByte(data, '\n')+1:])
}
