package devcluster

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/roles"
)

// Launcher starts the roles of a topology.
type Launcher interface {
	// Launch starts a role. A role that cannot open its folder or ports makes Launch fail, or ends soon after.
	Launch(t Topology, r Role, tokens Tokens) (Running, error)
}

// Running is a role that was started.
type Running interface {
	// Done is closed when the role has ended.
	Done() <-chan struct{}
	// Err is the error that the role ended with, nil for a clean end. It is valid once Done is closed.
	Err() error
	// Stop asks the role to end cleanly and waits until it has.
	Stop() error
	// PID is the role's process.
	PID() int
}

// InProcess is a Launcher that runs each role in goroutines of this process.
type InProcess struct{}

// inProcess is a role that runs in this process.
type inProcess struct {
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
	err    error // set before done is closed
}

// opened is a role that has its ports and folders.
type opened interface {
	Run(ctx context.Context) error
}

// Launch implements Launcher.
func (InProcess) Launch(t Topology, r Role, tokens Tokens) (Running, error) {
	if len(r.Place.Enter) > 0 {
		return nil, fmt.Errorf("%s: only a process of its own can be started through %q", r.Name, r.Place.Enter)
	}
	file, err := os.OpenFile(r.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
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
	p := &inProcess{cancel: cancel, done: make(chan struct{})}
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

func open(t Topology, r Role, tokens Tokens, log hclog.Logger) (opened, error) {
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

func (p *inProcess) Done() <-chan struct{} { return p.done }
func (p *inProcess) Err() error            { return p.err }
func (p *inProcess) PID() int              { return os.Getpid() }

func (p *inProcess) Stop() error {
	p.once.Do(p.cancel)
	<-p.done
	return p.err
}
