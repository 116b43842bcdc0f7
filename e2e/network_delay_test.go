package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// delayDevice is the interface of the hub by which packets come to [delays], and back.
const delayDevice = "slow0"

// delays hold back the packets of slow ways. It is what a queueing discipline of the kernel (netem) would do, which not
// every kernel has: packets that the hub has marked are routed to a TUN device, are read here, and are written back
// when their time has come.
type delays struct {
	device *os.File
	tasks  sync.WaitGroup
	closed chan struct{}

	mu sync.Mutex // guards by
	by delayTable

	queues map[pair]chan delayed // of the reading goroutine
}

// pair is an IPv4 packet's source and destination.
type pair [8]byte

// delayTable says by how much the packets of a pair are late.
type delayTable map[pair]time.Duration

func (d delayTable) add(from, to string, by time.Duration) {
	source, destination := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	d[pair(append(source[:], destination[:]...))] = by
}

// delayed is a packet and when it goes on.
type delayed struct {
	packet []byte
	due    time.Time
}

const (
	// heldMost is how many packets of one way are held back: what comes beyond them is lost, as in any queue.
	heldMost = 4096
	// packetMost is the longest packet.
	packetMost = 64 << 10
	// where the addresses stand in an IPv4 header (RFC 791, section 3.1)
	addressesFrom, addressesTo = 12, 20
)

// newDelays makes the device, in the hub, and starts to serve it.
func newDelays(ns *namespaces) (*delays, error) {
	device, err := inNamespace(ns.name(hub), openDelayDevice)
	if err != nil {
		return nil, err
	}
	err = ns.ip(hub,
		"link set dev "+delayDevice+" up",
		"rule add fwmark 1 table 100",
		"route add default dev "+delayDevice+" table 100")
	if err != nil {
		_ = device.Close() // it was not used yet
		return nil, err
	}
	d := &delays{device: device, closed: make(chan struct{}), queues: map[pair]chan delayed{}}
	d.tasks.Go(d.serve)
	return d, nil
}

// openDelayDevice makes the TUN device in the namespace that the thread is in.
func openDelayDevice() (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	request, err := unix.NewIfreq(delayDevice)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd) // it was not used yet
		return nil, fmt.Errorf("make a device of %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// set says which ways are slow from now on.
func (d *delays) set(by delayTable) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.by = by
}

// serve queues each packet that comes. A way's packets stay in their order.
func (d *delays) serve() {
	buf := make([]byte, packetMost)
	for {
		size, err := d.device.Read(buf)
		if err != nil {
			return // closed
		}
		if size < addressesTo || buf[0]>>4 != 4 {
			continue
		}
		who := pair(buf[addressesFrom:addressesTo])
		d.mu.Lock()
		by := d.by[who]
		d.mu.Unlock()
		queue := d.queues[who]
		if queue == nil {
			queue = make(chan delayed, heldMost)
			d.queues[who] = queue
			d.tasks.Go(func() { d.release(queue) })
		}
		select {
		case queue <- delayed{append([]byte(nil), buf[:size]...), time.Now().Add(by)}:
		default:
		}
	}
}

// release writes the packets of a way back, each when it is due.
func (d *delays) release(queue chan delayed) {
	for {
		select {
		case <-d.closed:
			return
		case p := <-queue:
			timer := time.NewTimer(time.Until(p.due))
			select {
			case <-d.closed:
				timer.Stop()
				return
			case <-timer.C:
			}
			_, _ = d.device.Write(p.packet) // one that the kernel does not take is lost, and sent again by who sent it
		}
	}
}

func (d *delays) close() {
	close(d.closed)
	_ = d.device.Close() // it ends with its namespace
	d.tasks.Wait()
}
