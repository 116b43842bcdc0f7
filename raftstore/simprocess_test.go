package raftstore

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// simProcess is the process of a member, which a simulation can halt: as by SIGSTOP, or as a virtual machine that is
// paused. Its clock goes on. The goroutines of a member are halted where they communicate with others, read how long
// the machine was suspended, and write to the log, as raft does before it reacts to a timer. What they do before has
// no effect outside of the process.
type simProcess struct {
	mu     sync.Mutex    // guards the fields below
	halted chan struct{} // closed when it runs again; nil while it runs
	rng    *rand.Rand
}

func (p *simProcess) halt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted = make(chan struct{})
}

func (p *simProcess) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.halted)
	p.halted = nil
}

// wait waits until the process runs.
func (p *simProcess) wait() { _ = p.waitFor(context.Background()) }

// waitFor waits until the process runs or ctx ends.
func (p *simProcess) waitFor(ctx context.Context) error {
	for {
		p.mu.Lock()
		halted := p.halted
		p.mu.Unlock()
		if halted == nil {
			return ctx.Err()
		}
		select {
		case <-halted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitLate is wait for a goroutine that reacts to a timer. After a halt others may run before it.
func (p *simProcess) waitLate() {
	halted := time.Now()
	p.wait()
	if time.Now().Equal(halted) {
		return
	}
	p.mu.Lock()
	late := time.Duration(p.rng.Int64N(int64(raftTimeout)))
	p.mu.Unlock()
	time.Sleep(late)
}

// suspended returns that the machine was never suspended: halts of a process do not count as that.
func (p *simProcess) suspended() time.Duration {
	p.wait()
	return 0
}

// haltingLogger is a logger that halts with its process.
type haltingLogger struct {
	hclog.Logger
	process *simProcess
}

func (l haltingLogger) Log(level hclog.Level, text string, args ...any) {
	l.process.waitLate()
	l.Logger.Log(level, text, args...)
}

func (l haltingLogger) Trace(text string, args ...any) { l.Log(hclog.Trace, text, args...) }
func (l haltingLogger) Debug(text string, args ...any) { l.Log(hclog.Debug, text, args...) }
func (l haltingLogger) Info(text string, args ...any)  { l.Log(hclog.Info, text, args...) }
func (l haltingLogger) Warn(text string, args ...any)  { l.Log(hclog.Warn, text, args...) }
func (l haltingLogger) Error(text string, args ...any) { l.Log(hclog.Error, text, args...) }

func (l haltingLogger) With(args ...any) hclog.Logger {
	return haltingLogger{l.Logger.With(args...), l.process}
}

func (l haltingLogger) Named(name string) hclog.Logger {
	return haltingLogger{l.Logger.Named(name), l.process}
}

func (l haltingLogger) ResetNamed(name string) hclog.Logger {
	return haltingLogger{l.Logger.ResetNamed(name), l.process}
}

// process returns the process of a member.
func (s *simulation) process(n *node) *simProcess { return s.net.process(n.cfg.Bind) }

// call makes a call to a member as a client does. It is not made, and its result is lost, if the member is halted until
// ctx ends.
func (s *simulation) call(ctx context.Context, n *node, call func() error) error {
	if err := s.process(n).waitFor(ctx); err != nil {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	return s.process(n).waitFor(ctx)
}

// halt halts one member, or two times in five all of them. Before they run again, the network may be cut around them.
// They then have what arrived before and in the halt, and nothing else arrives.
func (s *simulation) halt(victim int) {
	halted := s.nodes[victim : victim+1]
	if s.rng.IntN(5) < 2 {
		halted = s.nodes
	}
	lasts, cut := maxSilence+time.Duration(s.rng.IntN(8000))*time.Millisecond, s.rng.IntN(2) == 0
	for _, n := range halted {
		s.process(n).halt()
	}
	time.Sleep(raftTimeout)
	if cut {
		s.net.change(s.cutOff(func(from, to int) bool {
			return slices.Contains(halted, s.nodes[from]) || slices.Contains(halted, s.nodes[to])
		}))
	}
	time.Sleep(lasts)
	ctx, cancel := context.WithTimeout(s.t.Context(), raftTimeout)
	defer cancel()
	var reads sync.WaitGroup
	defer reads.Wait()
	for _, n := range halted {
		reads.Go(func() { s.readOnce(ctx, n, n) }) // waits for the process
	}
	synctest.Wait()
	for _, n := range halted {
		s.process(n).resume()
	}
	for range 2 * raftTimeout / time.Millisecond {
		time.Sleep(time.Millisecond)
		for _, n := range halted {
			s.checkContact(n)
		}
	}
}

// maxSilence is how long a master that has heard from no leader trusts its table of tokens. It is that of package
// masternode.
const maxSilence = 5 * time.Second

// checkContact checks that a member trusts its table only if the others have sent it something shortly before that
// time.
func (s *simulation) checkContact(n *node) {
	now := time.Now()
	silence := n.LastContact()
	if silence > maxSilence || !time.Now().Equal(now) { // or it was halted before it used the result
		return
	}
	heard := s.net.lastHeard(n.cfg.Bind)
	if age := now.Sub(heard); age > maxSilence+leaseGap*raftTimeout {
		s.report(notTrusted, "member %s says that its last contact is %v ago; what it read last was sent %v ago",
			n.cfg.Bind, silence, age)
	}
}
