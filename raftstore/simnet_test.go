package raftstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
)

// simNet is a network in memory between members, which it knows by their addresses. What is sent while a direction is
// cut arrives when it is not cut any more, as with TCP.
type simNet struct {
	mu        sync.Mutex // guards all below
	cut       map[[2]string]bool
	listeners map[string]*simListener
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

func newSimNet(t *testing.T) *simNet {
	n := &simNet{cut: map[[2]string]bool{}, listeners: map[string]*simListener{}}
	t.Cleanup(func() {
		n.change(heal)
		n.tasks.Wait()
	})
	return n
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
	local, remote simAddr
}

func (c simConn) LocalAddr() net.Addr  { return c.local }
func (c simConn) RemoteAddr() net.Addr { return c.remote }

// dialFrom returns the function with which a member dials.
func (n *simNet) dialFrom(from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, to string) (net.Conn, error) {
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
		case l.conns <- simConn{far, simAddr(to), simAddr(from)}:
		case <-l.closed:
			return nil, errors.New("connection refused")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		n.tasks.Go(func() { n.relay(from, to, nearRelay, farRelay) })
		n.tasks.Go(func() { n.relay(to, from, farRelay, nearRelay) })
		return simConn{near, simAddr(from), simAddr(to)}, nil
	}
}

// relay passes on what one end sends, and its end.
func (n *simNet) relay(from, to string, source, sink net.Conn) {
	b := make([]byte, 32<<10)
	for {
		count, err := source.Read(b)
		_ = n.pass(context.Background(), from, to)
		if err == nil {
			_, err = sink.Write(b[:count])
		}
		if err != nil {
			_, _ = source.Close(), sink.Close()
			return
		}
	}
}

// heal is a change after which nothing is cut.
func heal(cut map[[2]string]bool) { clear(cut) }
