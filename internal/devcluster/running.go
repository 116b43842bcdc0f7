package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/roles"
)

// Running is a role that was started, in this process or in one of its own.
type Running struct {
	name    string
	cancel  context.CancelFunc // ends a role in this process
	process *os.Process        // nil for a role in this process
	done    chan struct{}
	err     error // set before done is closed
}

// Done is closed when the role has ended.
func (r *Running) Done() <-chan struct{} { return r.done }

// Err returns the error that the role ended with, nil for a clean end. It is valid once Done is closed.
func (r *Running) Err() error { return r.err }

// PID returns the process id of the role.
func (r *Running) PID() int {
	if r.process != nil {
		return r.process.Pid
	}
	return os.Getpid()
}

func (r *Running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// stopTime bounds the time for a clean end of a child.
const stopTime = 10 * time.Second

// Stop makes the role end cleanly and waits until it has. A process that takes too long is killed.
func (r *Running) Stop() error {
	if r.process == nil {
		r.cancel()
		<-r.done
		return r.err
	}
	if err := r.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("%s did not stop within %v and was killed", r.name, stopTime), r.kill())
	}
}

// kill kills the process of a role and waits for its end.
func (r *Running) kill() error {
	if r.process == nil {
		return fmt.Errorf("%s is not a process of its own", r.name)
	}
	err := r.process.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-r.done
	return err
}

// launchInProcess starts a role in goroutines of this process. It fails if the role cannot open its folder or ports.
func launchInProcess(t Topology, r Role, tokens Tokens) (*Running, error) {
	if len(r.Enter) > 0 {
		return nil, fmt.Errorf("%s: only a process of its own can be started through %q", r.Name, r.Enter)
	}
	file, err := openLog(r)
	if err != nil {
		return nil, err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: r.Name, Level: hclog.LevelFromString(t.LogLevel), Output: file})
	role, err := open(t, r, tokens, log)
	if err != nil {
		_ = file.Close() // nothing of value was written
		return nil, fmt.Errorf("%s: %w", r.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Running{name: r.Name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := role.Run(ctx); err != nil {
			log.Error("stopped", "error", err)
			p.err = fmt.Errorf("%s: %w", r.Name, err)
		}
		_ = file.Close() // an error of the log file does not change how the role ended
	}()
	return p, nil
}

// openLog opens the log file of a role to append to it.
func openLog(r Role) (*os.File, error) {
	return os.OpenFile(r.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// open opens the folder and the ports of a role.
func open(t Topology, r Role, tokens Tokens, log hclog.Logger) (interface{ Run(context.Context) error }, error) {
	if r.Kind == KindMaster {
		cfg := t.master(r, tokens)
		cfg.Logger = log
		return roles.OpenMaster(cfg)
	}
	cfg := t.worker(r, tokens)
	cfg.Logger = log
	if r.Kind == KindMiner {
		return roles.OpenMiner(cfg)
	}
	return roles.OpenStorage(cfg)
}
