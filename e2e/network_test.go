package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/devcluster"
)

// proxied is what is added to a role's ports to get those of its proxies.
const proxied = 200

// network stands between all roles, and between them and the clients: a TCP proxy before each port of each role. Which role calls is found
// out by the process that owns the connection's other end, so that each direction between each two roles can be cut or slowed by itself. A
// cut is silent: bytes are held back, nobody is told, and they go on when it heals, as with packets that are lost and sent again.
//
// Network namespaces with a packet filter would do the same; where the machine has none, or no right to them, this does, and it is the only
// mechanism that the tests have: see the log line of newNetwork.
type network struct {
	t         *testing.T
	dir       string // of the cluster: a process with a role's folder in its command line is that role
	listeners []net.Listener
	tasks     sync.WaitGroup

	mu      sync.Mutex // guards all below
	changed chan struct{}
	cut     map[way]bool
	slow    map[way]time.Duration
	conns   map[net.Conn]struct{}
	closed  bool
	roles   map[int]string // by pid, of the roles' processes that were seen
}

// way is one direction between two roles; "client" is the test itself.
type way struct{ from, to string }

// newNetwork puts a proxy before every port of a topology, which must have Proxied set.
func newNetwork(t *testing.T, topology devcluster.Topology) *network {
	t.Helper()
	t.Log("network faults: TCP proxies of the tests' own, one before each port (no packet filter in network namespaces is used)")
	n := &network{
		t: t, dir: topology.Dir, roles: map[int]string{}, changed: make(chan struct{}),
		cut: map[way]bool{}, slow: map[way]time.Duration{}, conns: map[net.Conn]struct{}{},
	}
	t.Cleanup(n.close)
	for _, r := range topology.Roles() {
		n.forward(r.Name, r.Advertise, r.HTTP)
		if r.Raft != "" {
			n.forward(r.Name, r.RaftAdvertise, r.Raft)
		}
	}
	return n
}

// forward hands what comes at one address on to another.
func (n *network) forward(role, from, to string) {
	n.t.Helper()
	listener, err := net.Listen("tcp", from)
	if err != nil {
		n.t.Fatal(err)
	}
	n.listeners = append(n.listeners, listener)
	n.tasks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.tasks.Go(func() { n.join(conn, role, to) })
		}
	})
}

// join connects a caller with a role, until either side ends.
func (n *network) join(near net.Conn, role, to string) {
	caller := n.caller(near.RemoteAddr())
	if !n.track(near) {
		return
	}
	defer n.drop(near)
	n.pass(way{caller, role}, nil) // not even the connection comes about while the way is cut
	far, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	if !n.track(far) {
		return
	}
	defer n.drop(far)
	var both sync.WaitGroup
	both.Go(func() { n.copy(far, near, way{caller, role}) })
	both.Go(func() { n.copy(near, far, way{role, caller}) })
	both.Wait()
}

// copy carries bytes one way. The end of one side is the end of the other.
func (n *network) copy(to, from net.Conn, w way) {
	buf := make([]byte, 64<<10)
	for {
		size, err := from.Read(buf)
		n.pass(w, from)
		if size > 0 {
			if _, err := to.Write(buf[:size]); err != nil {
				n.drop(from)
				return
			}
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
				_ = half.CloseWrite() // the other side may have gone: then its reader finds out
			} else {
				n.drop(to)
			}
			return
		}
	}
}

// pass waits for as long as a way is slow or cut.
func (n *network) pass(w way, conn net.Conn) {
	for {
		n.mu.Lock()
		cut, wait, changed, closed := n.cut[w], n.slow[w], n.changed, n.closed
		if conn != nil {
			if _, open := n.conns[conn]; !open {
				closed = true
			}
		}
		n.mu.Unlock()
		if closed {
			return
		}
		if cut {
			<-changed
			continue
		}
		if wait > 0 {
			timer := time.NewTimer(wait)
			<-timer.C
		}
		return
	}
}

func (n *network) track(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		_ = c.Close() // the network is gone
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

func (n *network) drop(c net.Conn) {
	n.mu.Lock()
	delete(n.conns, c)
	n.mu.Unlock()
	_ = c.Close() // it may be closed already
}

// change changes the ways, and wakes those that wait on one.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// cutWay cuts one direction; heal opens it again.
func (n *network) cutWay(from, to string) (heal func()) {
	w := way{from, to}
	n.change(func() { n.cut[w] = true })
	return func() { n.change(func() { delete(n.cut, w) }) }
}

// slowWay makes every read of one direction take longer.
func (n *network) slowWay(from, to string, by time.Duration) (heal func()) {
	w := way{from, to}
	n.change(func() { n.slow[w] = by })
	return func() { n.change(func() { delete(n.slow, w) }) }
}

// isolate cuts a role off from others, both ways.
func (n *network) isolate(role string, others []string) (heal func()) {
	var heals []func()
	for _, other := range others {
		if other != role {
			heals = append(heals, n.cutWay(role, other), n.cutWay(other, role))
		}
	}
	return func() {
		for _, f := range heals {
			f()
		}
	}
}

func (n *network) close() {
	n.change(func() { n.closed = true })
	for _, l := range n.listeners {
		_ = l.Close() // nobody listens any more either way
	}
	n.mu.Lock()
	conns := n.conns
	n.conns = map[net.Conn]struct{}{}
	n.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	n.tasks.Wait()
}

// clientIP is the address that this process calls from where it calls often: no role has it, and to look a caller up takes milliseconds.
var clientIP = net.IPv4(127, 0, 0, 2)

// caller names the role whose process has the other end of a connection; "client" where it is this one, or nobody's.
func (n *network) caller(remote net.Addr) string {
	if tcp, ok := remote.(*net.TCPAddr); ok && tcp.IP.Equal(clientIP) {
		return "client"
	}
	inode := socketOf(remote)
	if inode == "" {
		return "client"
	}
	for pid, role := range n.processes() {
		if ownsSocket(pid, inode) {
			return role
		}
	}
	return "client"
}

// processes are those of the cluster's roles that run now.
func (n *network) processes() map[int]string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	running := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		role := n.roles[pid]
		if role == "" {
			role = n.roleOf(e.Name())
		}
		if role != "" {
			running[pid] = role
		}
	}
	n.roles = running
	return running
}

// roleOf finds the role of a process in its command line; "" where it is none.
func (n *network) roleOf(pid string) string {
	line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	if err != nil {
		return "" // it has ended
	}
	for _, arg := range strings.Split(string(line), "\x00") {
		if role, ok := strings.CutPrefix(arg, n.dir+"/"); ok && !strings.Contains(role, "/") {
			return role
		}
	}
	return ""
}

// socketOf finds the inode of a local TCP socket by its own address, in /proc/net/tcp; "" where it is gone.
func socketOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // only read
	ip := tcp.IP.To4()
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && fields[1] == want {
			return fields[9]
		}
	}
	return ""
}

// ownsSocket looks through the descriptors of a process.
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
