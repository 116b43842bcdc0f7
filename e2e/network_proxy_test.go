package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// proxied is the difference between a port of a role and the port of its proxy.
const proxied = 200

// proxies implements wires for machines without namespaces, or without the privilege to use them: a TCP proxy in front
// of each port of each role. It identifies the calling role by the process that owns the other end of the connection. A
// cut delays bytes until it heals, like lost packets that are retransmitted. However, a connection to a proxy is
// established even if the way behind it is cut, and the kernels do not see any loss.
type proxies struct {
	dir       string // of the cluster; a process with a role's folder in its command line is that role
	listeners []net.Listener
	tasks     sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	changed chan struct{}
	ways    map[way]condition
	conns   map[net.Conn]struct{}
	closed  bool
	held    int            // number of reads that a cut delayed
	roles   map[int]string // by pid; the processes of roles seen so far
}

// newProxies puts a proxy in front of every port of a topology, which must advertise the proxies.
func newProxies(topology devcluster.Topology) (*proxies, error) {
	p := &proxies{dir: topology.Dir, roles: map[int]string{}, changed: make(chan struct{}),
		conns: map[net.Conn]struct{}{}}
	for _, r := range topology.Roles() {
		for from, to := range map[string]string{r.Advertise: r.HTTP, r.RaftAdvertise: r.Raft} {
			if from == "" {
				continue
			}
			if err := p.forward(r.Name, from, to); err != nil {
				return nil, errors.Join(err, p.close())
			}
		}
	}
	return p, nil
}

// advertiseProxy makes a role advertise the ports of its proxy.
func advertiseProxy(_ int, r *devcluster.Role) {
	r.Advertise = proxyOf(r.HTTP)
	if r.Raft != "" {
		r.RaftAdvertise = proxyOf(r.Raft)
	}
}

// proxyOf returns the address of the proxy of an address.
func proxyOf(address string) string {
	host, port, _ := strings.Cut(address, ":")
	number, _ := strconv.Atoi(port)
	return net.JoinHostPort(host, strconv.Itoa(number+proxied))
}

// forward forwards the connections of one address to another.
func (p *proxies) forward(role, from, to string) error {
	listener, err := net.Listen("tcp", from)
	if err != nil {
		return err
	}
	p.listeners = append(p.listeners, listener)
	p.tasks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.tasks.Go(func() { p.join(conn, role, to) })
		}
	})
	return nil
}

// join connects a caller with a role, until either side ends.
func (p *proxies) join(near net.Conn, role, to string) {
	caller := p.caller(near.RemoteAddr())
	if !p.track(near) {
		return
	}
	defer p.drop(near)
	p.pass(way{caller, role}, nil) // no connection is established while the way is cut
	far, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	if !p.track(far) {
		return
	}
	defer p.drop(far)
	var both sync.WaitGroup
	both.Go(func() { p.copy(far, near, way{caller, role}) })
	both.Go(func() { p.copy(near, far, way{role, caller}) })
	both.Wait()
}

// copy copies bytes in one direction. It ends both connections when one of them ends.
func (p *proxies) copy(to, from net.Conn, w way) {
	buf := make([]byte, 64<<10)
	for {
		size, err := from.Read(buf)
		p.pass(w, from)
		if size > 0 {
			if _, err := to.Write(buf[:size]); err != nil {
				p.drop(from)
				return
			}
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
				_ = half.CloseWrite() // the other side may be closed, which its reader detects
			} else {
				p.drop(to)
			}
			return
		}
	}
}

// pass waits while a way is cut, and for its delay.
func (p *proxies) pass(w way, conn net.Conn) {
	for first := true; ; first = false {
		p.mu.Lock()
		is, changed, closed := p.ways[w], p.changed, p.closed
		if conn != nil {
			if _, open := p.conns[conn]; !open {
				closed = true
			}
		}
		if first && is.cut {
			p.held++
		}
		p.mu.Unlock()
		if closed {
			return
		}
		if is.cut {
			<-changed
			continue
		}
		if is.slow > 0 {
			timer := time.NewTimer(is.slow)
			<-timer.C
		}
		return
	}
}

func (p *proxies) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close() // the network is closed
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxies) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close() // it may already be closed
}

// set implements wires, and wakes the goroutines that wait for a way.
func (p *proxies) set(ways map[way]condition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways = ways
	p.wake()
	return nil
}

// wake makes all waiting goroutines check their way again.
func (p *proxies) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxies) stopped() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held, nil
}

func (p *proxies) canSlow() bool { return true }

// dial connects a client with a proxy.
func (p *proxies) dial(ctx context.Context, network, address string) (net.Conn, error) {
	own := net.Dialer{LocalAddr: &net.TCPAddr{IP: clientIP}, Timeout: connectTime}
	return own.DialContext(ctx, network, address)
}

// listen opens a port behind the proxies.
func (p *proxies) listen(_, address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (p *proxies) close() error {
	p.mu.Lock()
	p.closed = true
	p.wake()
	conns := p.conns
	p.conns = map[net.Conn]struct{}{}
	p.mu.Unlock()
	for _, l := range p.listeners {
		_ = l.Close() // no longer in use
	}
	for c := range conns {
		_ = c.Close()
	}
	p.tasks.Wait()
	return nil
}

// clientIP is the source address of this process for frequent calls. No role has it, so calls from it need no lookup of
// the caller, which takes milliseconds.
var clientIP = net.IPv4(127, 0, 0, 2)

// caller returns the role whose process owns the other end of a connection. It returns clientName for this process, and
// if no role has the connection.
func (p *proxies) caller(remote net.Addr) string {
	if tcp, ok := remote.(*net.TCPAddr); ok && tcp.IP.Equal(clientIP) {
		return clientName
	}
	inode := socketOf(remote)
	if inode == "" {
		return clientName
	}
	for pid, role := range p.processes() {
		if ownsSocket(pid, inode) {
			return role
		}
	}
	return clientName
}

// processes returns the running processes of the cluster's roles.
func (p *proxies) processes() map[int]string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	running := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		role := p.roles[pid]
		if role == "" {
			role = p.roleOf(e.Name())
		}
		if role != "" {
			running[pid] = role
		}
	}
	p.roles = running
	return running
}

// roleOf returns the role of a process according to its command line, or "".
func (p *proxies) roleOf(pid string) string {
	line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	if err != nil {
		return "" // it has ended
	}
	for _, arg := range strings.Split(string(line), "\x00") {
		if role, ok := strings.CutPrefix(arg, p.dir+"/"); ok && !strings.Contains(role, "/") {
			return role
		}
	}
	return ""
}

// socketOf returns the inode of a local TCP socket by its address, from the table of the kernel, or "" if it is gone.
func socketOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	file, err := os.Open("/proc/thread-self/net/tcp")
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // read only
	ip := tcp.IP.To4()
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && fields[1] == want {
			return fields[9]
		}
	}
	return ""
}

// ownsSocket reports whether a process has a socket among its descriptors.
func ownsSocket(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
