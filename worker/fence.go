package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/chainstore/chainstore/durable"
	"github.com/chainstore/chainstore/httpapi/wire"
)

// ErrFenced: the order comes from a leader that has been deposed.
var ErrFenced = errors.New("order of a deposed leader refused")

// Fence keeps the highest order that a worker has seen on disk and refuses lower ones.
//
// The file, big endian: magic "CSFN" ‖ version u8 = 1 ‖ epoch u64 ‖ term u64 ‖ CRC-32C of what is before it.
type Fence struct {
	path string

	mu      sync.Mutex // guards all below
	highest wire.Order
	claim   string        // of the recovery that raised highest, "" where a leader did
	led     uint64        // epoch of the newest leader that was let in, 0 where that is not known
	changed chan struct{} // closed when highest moves
}

const (
	fenceMagic   = "CSFN"
	fenceVersion = 1
	fenceSize    = 4 + 1 + 8 + 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenFence reads the fence of a data folder; where there is none it stands at zero.
func OpenFence(dir string) (*Fence, error) {
	f := &Fence{path: filepath.Join(dir, "fence"), changed: make(chan struct{})}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if len(data) >= 5 && string(data[:4]) == fenceMagic && data[4] > fenceVersion {
		return nil, fmt.Errorf("%s: %w: version %d", f.path, ErrNewerFormat, data[4])
	}
	if len(data) != fenceSize || string(data[:4]) != fenceMagic || data[4] != fenceVersion ||
		crc32.Checksum(data[:fenceSize-4], castagnoli) != binary.BigEndian.Uint32(data[fenceSize-4:]) {
		return nil, fmt.Errorf("%s is damaged: remove it when no old leader of the cluster can be running any more", f.path)
	}
	f.highest = wire.Order{Epoch: binary.BigEndian.Uint64(data[5:]), Term: binary.BigEndian.Uint64(data[13:])}
	if f.highest.Term > 0 {
		f.led = f.highest.Epoch
	}
	return f, nil
}

// Pass lets an order of the newest leader in, after a newer one is on disk, and refuses older ones with [ErrFenced]
// and a [*wire.FencedError]. Any other error means that the disk failed: the role must stop.
func (f *Fence) Pass(o wire.Order) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o == f.highest {
		return nil
	}
	if o.Less(f.highest) {
		return f.refuse(o)
	}
	return f.advance(o, "")
}

// Raise has the fence refuse the leaders of all epochs below one, for the recovery of that name. May is asked while
// no order can pass; its error is returned. The same recovery may raise the fence to the same epoch again, until the
// worker is started anew. Another one is refused with [ErrFenced] where the fence stands at that epoch or above. Any
// other error means that the disk failed: the role must stop.
func (f *Fence) Raise(epoch uint64, claim string, may func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := wire.Order{Epoch: epoch}
	again := o == f.highest && claim == f.claim
	if claim == "" || epoch <= f.highest.Epoch && !again {
		return f.refuse(o)
	}
	if err := may(); err != nil || again {
		return err
	}
	return f.advance(o, claim)
}

// refuse is the error for an order that is too low; mu is held.
func (f *Fence) refuse(o wire.Order) error {
	return &wire.FencedError{Highest: f.highest, Err: fmt.Errorf("%w: epoch %d, term %d; this node has seen epoch "+
		"%d, term %d",
		ErrFenced, o.Epoch, o.Term, f.highest.Epoch, f.highest.Term)}
}

// advance moves the fence up, on disk first; mu is held.
func (f *Fence) advance(o wire.Order, claim string) error {
	data := append(make([]byte, 0, fenceSize), fenceMagic...)
	data = append(data, fenceVersion)
	data = binary.BigEndian.AppendUint64(data, o.Epoch)
	data = binary.BigEndian.AppendUint64(data, o.Term)
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	if err := durable.WriteFile(f.path, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	f.highest, f.claim = o, claim
	if claim == "" {
		f.led = o.Epoch
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// Highest is the newest order that was let in, and a channel that is closed when a newer one is.
func (f *Fence) Highest() (wire.Order, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.highest, f.changed
}

// LedEpoch is the epoch of the newest leader whose order was let in, 0 where that is not known: the worker was started
// after a recovery had raised the fence.
func (f *Fence) LedEpoch() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.led
}
