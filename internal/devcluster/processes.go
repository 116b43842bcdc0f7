package devcluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/chainstore/chainstore/internal/roles"
)

// Processes is a Launcher that runs each role as a child process of a chainstore executable. The children end with this
// process, however it ends: the kernel kills them (PR_SET_PDEATHSIG) when the thread that started them ends. So one
// locked thread starts them all and lives until Close.
type Processes struct {
	executable string
	starts     chan start
	ended      chan struct{}
}

// start asks the locked thread to start a child.
type start struct {
	cmd    *exec.Cmd
	answer chan error
}

// NewProcesses returns a launcher of an executable. Close must be called.
func NewProcesses(executable string) *Processes {
	p := &Processes{executable: executable, starts: make(chan start), ended: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(p.ended)
		for s := range p.starts {
			s.answer <- s.cmd.Start()
		}
	}()
	return p
}

// Close ends the launcher. It kills the children that still run.
func (p *Processes) Close() {
	close(p.starts)
	<-p.ended
}

// process is a role in a child process.
type process struct {
	role Role
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Launch implements Launcher.
func (p *Processes) Launch(t Topology, r Role, tokens Tokens) (Running, error) {
	log, err := os.OpenFile(r.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	line := slices.Concat(r.Place.Enter, []string{p.executable}, arguments(t, r))
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(environment(), "CHAINSTORE_CLUSTER_TOKEN="+tokens.Cluster, "CHAINSTORE_ADMIN_TOKEN="+tokens.Admin)
	cmd.Stdout, cmd.Stderr = log, log
	// In a process group of its own the child does not get Ctrl-C from the terminal: this process stops it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s := start{cmd: cmd, answer: make(chan error, 1)}
	p.starts <- s
	if err := <-s.answer; err != nil {
		return nil, fmt.Errorf("%s: %w", r.Name, err)
	}
	c := &process{role: r, cmd: cmd, done: make(chan struct{})}
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
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CHAINSTORE_") {
			env = append(env, v)
		}
	}
	return env
}

// arguments returns the command line of a role.
func arguments(t Topology, r Role) []string {
	args := []string{string(r.Kind), "--log-level=" + t.LogLevel}
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

func (c *process) Done() <-chan struct{} { return c.done }
func (c *process) Err() error            { return c.err }
func (c *process) PID() int              { return c.cmd.Process.Pid }

// stopTime bounds the time for a clean end of a child.
const stopTime = 10 * time.Second

func (c *process) Stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("%s did not stop within %v and was killed", c.role.Name, stopTime), c.kill())
	}
}

// kill kills the process and waits for its end.
func (c *process) kill() error {
	err := c.cmd.Process.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-c.done
	return err
}
