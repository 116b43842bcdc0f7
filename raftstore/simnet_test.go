package raftstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// simNet is a network in memory between members, which it knows by their addresses. What is sent while a direction is
// cut arrives when it is not cut any more, as with TCP.
type simNet struct {
	seed uint64 // of the processes

	mu        sync.Mutex // guards all below
	cut       map[[2]string]bool
	listeners map[string]*simListener
	processes map[string]*simProcess
	heard     map[string]time.Time // by receiver: when the newest of what it has read was sent
	changed   broadcast
	tasks     sync.WaitGroup
}

type simAddr string

func (simAddr) Network() string  { return "tcp" }
func (a simAddr) String() string { return string(a) }

type simListener struct {
	net    *simNet
	addr   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *simListener) Accept() (net.Conn, error) {
	defer l.net.process(l.addr).wait()
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *simListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
	})
	return nil
}

func (l *simListener) Addr() net.Addr { return simAddr(l.addr) }

func newSimNet(t *testing.T, seed uint64) *simNet {
	n := &simNet{
		seed: seed, cut: map[[2]string]bool{}, listeners: map[string]*simListener{}, heard: map[string]time.Time{},
		processes: map[string]*simProcess{},
	}
	t.Cleanup(func() {
		n.change(heal)
		n.tasks.Wait()
	})
	return n
}

// process returns the process of the member at an address.
func (n *simNet) process(addr string) *simProcess {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.processes[addr] == nil {
		n.processes[addr] = &simProcess{rng: rand.New(rand.NewPCG(n.seed, uint64(len(n.processes))))}
	}
	return n.processes[addr]
}

// lastHeard returns when the newest of what a member has read was sent.
func (n *simNet) lastHeard(addr string) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.heard[addr]
}

// change changes which directions are cut.
func (n *simNet) change(f func(cut map[[2]string]bool)) {
	n.mu.Lock()
	f(n.cut)
	n.mu.Unlock()
	n.changed.notify()
}

func (n *simNet) listen(bind, _ string) (net.Listener, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &simListener{net: n, addr: bind, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[bind] = l
	return l, bind, nil
}

// pass waits until a direction is not cut.
func (n *simNet) pass(ctx context.Context, from, to string) error {
	for {
		changed := n.changed.wait()
		n.mu.Lock()
		cut := n.cut[[2]string{from, to}]
		n.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// simConn is one end of a connection.
type simConn struct {
	net.Conn
	process       *simProcess // that has this end
	local, remote simAddr
}

func (c simConn) Read(b []byte) (int, error) {
	defer c.process.wait()
	return c.Conn.Read(b)
}

func (c simConn) Write(b []byte) (int, error) {
	c.process.wait()
	defer c.process.wait()
	return c.Conn.Write(b)
}

func (c simConn) LocalAddr() net.Addr  { return c.local }
func (c simConn) RemoteAddr() net.Addr { return c.remote }

// dialFrom returns the function with which a member dials.
func (n *simNet) dialFrom(from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, to string) (net.Conn, error) {
		n.process(from).wait()
		defer n.process(from).wait()
		if err := errors.Join(n.pass(ctx, from, to), n.pass(ctx, to, from)); err != nil {
			return nil, err
		}
		n.mu.Lock()
		l := n.listeners[to]
		n.mu.Unlock()
		if l == nil {
			return nil, errors.New("connection refused")
		}
		near, nearRelay := net.Pipe()
		far, farRelay := net.Pipe()
		select {
		case l.conns <- simConn{far, n.process(to), simAddr(to), simAddr(from)}:
		case <-l.closed:
			return nil, errors.New("connection refused")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		n.tasks.Go(func() { n.relay(from, to, nearRelay, farRelay) })
		n.tasks.Go(func() { n.relay(to, from, farRelay, nearRelay) })
		return simConn{near, n.process(from), simAddr(from), simAddr(to)}, nil
	}
}

// relay passes on what one end sends, and its end.
func (n *simNet) relay(from, to string, source, sink net.Conn) {
	b := make([]byte, 32<<10)
	for {
		count, err := source.Read(b)
		sent := time.Now()
		_ = n.pass(context.Background(), from, to)
		if err == nil {
			_, err = sink.Write(b[:count])
		}
		if err == nil {
			n.mu.Lock()
			if n.heard[to].Before(sent) {
				n.heard[to] = sent
			}
			n.mu.Unlock()
		}
		if err != nil {
			_, _ = source.Close(), sink.Close()
			return
		}
	}
}

// heal is a change after which nothing is cut.
func heal(cut map[[2]string]bool) { clear(cut) }
