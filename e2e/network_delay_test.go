package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// delayDevice is the interface of the hub through which packets enter and leave [delays].
const delayDevice = "slow0"

// delays delays the packets of slow ways. A queueing discipline of the kernel (netem) could do this, but not every
// kernel has one. Packets that the hub has marked are routed to a TUN device. They are read there, and written back
// when their delay has passed.
type delays struct {
	device *os.File
	tasks  sync.WaitGroup
	closed chan struct{}

	mu sync.Mutex // guards by
	by delayTable

	queues map[pair]chan delayed // used by the reading goroutine only
}

// pair is the source and destination of an IPv4 packet.
type pair [8]byte

// delayTable maps pairs to the delay of their packets.
type delayTable map[pair]time.Duration

func (d delayTable) add(from, to string, by time.Duration) {
	source, destination := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	d[pair(append(source[:], destination[:]...))] = by
}

// delayed is a packet and the time at which to forward it.
type delayed struct {
	packet []byte
	due    time.Time
}

const (
	// heldMost is the maximum number of queued packets of one way. Further packets are dropped, as in any queue.
	heldMost = 4096
	// packetMost is the maximum packet size.
	packetMost = 64 << 10
	// offsets of the addresses in an IPv4 header (RFC 791, section 3.1)
	addressesFrom, addressesTo = 12, 20
)

// newDelays creates the device in the hub, and starts to serve it.
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

// openDelayDevice creates the TUN device in the network namespace of the calling thread.
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

// set replaces the delays of all ways.
func (d *delays) set(by delayTable) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.by = by
}

// serve queues each packet that arrives. Packets of one way stay in order.
func (d *delays) serve() {
	buf := make([]byte, packetMost)
	for {
		size, err := d.device.Read(buf)
		if err != nil {
			return // the device is closed
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
			_, _ = d.device.Write(p.packet) // a lost packet is retransmitted by its sender
		}
	}
}

func (d *delays) close() {
	close(d.closed)
	_ = d.device.Close() // the device ends with its namespace
	d.tasks.Wait()
}
