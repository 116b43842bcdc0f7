package storagenode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// The folder inbox/ keeps blocks beyond the chain's end until the blocks before them are there. Each is a file of its own, named
// after its number, 20 decimal digits and ".block" (big endian):
//
//	magic "CSIB" ‖ version u8 = 1 ‖ 0 0 0 ‖ number u64 ‖ length u32 ‖ block ‖ CRC-32C u32 of all before
const (
	inboxMagic   = "CSIB"
	inboxVersion = 1
	inboxHeader  = 8 + 8 + 4
	inboxSuffix  = ".block"
)

// DefaultInboxBytes is what the inbox may hold.
const DefaultInboxBytes = 256 << 20

// inboxUnit is what a file takes on disk at least: small blocks are counted as so much, so that their number is bounded too.
const inboxUnit = 4096

// inbox is what the folder holds. It is guarded by the node's mu.
type inbox struct {
	sizes map[uint64]int64 // of the files, by block
	bytes int64            // of all, as they are counted
	run   chain.Range      // without a gap, ends with the last block
}

func counted(size int64) int64 { return max(size, inboxUnit) }

func (x *inbox) add(number uint64, size int64) {
	if x.sizes == nil {
		x.sizes = map[uint64]int64{}
	}
	x.sizes[number] = size
	x.bytes += counted(size)
}

func (x *inbox) drop(number uint64) {
	x.bytes -= counted(x.sizes[number])
	delete(x.sizes, number)
}

// count finds the run again.
func (x *inbox) count() {
	x.run = chain.Range{}
	for number := range x.sizes {
		x.run.To = max(x.run.To, number+1)
	}
	for x.run.From = x.run.To; x.run.From > 0; x.run.From-- {
		if _, ok := x.sizes[x.run.From-1]; !ok {
			break
		}
	}
}

// grow is count after a block was added.
func (x *inbox) grow(number uint64) {
	switch {
	case x.run.Len() > 0 && number == x.run.To:
		x.run.To++
	case number >= x.run.To:
		x.run = chain.Range{From: number, To: number + 1}
	}
	for x.run.From > 0 {
		if _, ok := x.sizes[x.run.From-1]; !ok {
			break
		}
		x.run.From--
	}
}

func (n *Node) inboxDir() string { return filepath.Join(n.cfg.Dir, "inbox") }

func (n *Node) inboxPath(number uint64) string {
	return filepath.Join(n.inboxDir(), fmt.Sprintf("%020d%s", number, inboxSuffix))
}

func appendInbox(dst []byte, number uint64, block []byte) []byte {
	start := len(dst)
	dst = append(append(dst, inboxMagic...), inboxVersion, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, number)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
	dst = append(dst, block...)
	return binary.BigEndian.AppendUint32(dst, segment.Checksum(dst[start:]))
}

// parseInbox gives the block in a file of the inbox; it points into data. The error wraps ErrDamaged or ErrNewerFormat.
func parseInbox(data []byte, number uint64) ([]byte, error) {
	switch {
	case len(data) < inboxHeader+4 || string(data[:4]) != inboxMagic:
		return nil, fmt.Errorf("%w: %d bytes are no block of the inbox", ErrDamaged, len(data))
	case data[4] > inboxVersion:
		return nil, fmt.Errorf("%w: version %d, this program knows %d", ErrNewerFormat, data[4], inboxVersion)
	}
	body := data[:len(data)-4]
	if data[4] != inboxVersion || segment.Checksum(body) != binary.BigEndian.Uint32(data[len(body):]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	if got := binary.BigEndian.Uint64(data[8:]); got != number {
		return nil, fmt.Errorf("%w: block %d is in it", ErrDamaged, got)
	}
	if uint64(binary.BigEndian.Uint32(data[16:])) != uint64(len(body)-inboxHeader) {
		return nil, fmt.Errorf("%w: %d bytes are not of the length that it names", ErrDamaged, len(data))
	}
	return body[inboxHeader:], nil
}

// PutInbox keeps a block that is beyond the chain's end until the blocks before it are there: it returns when the block would
// survive a power cut. A block below the height, or one that is in the inbox, is taken with no effect. Blocks come in order, so
// what the inbox has behind a gap after this one is of no leader, and is moved aside. Nothing is said of whether the block will fit. data
// is not kept.
//
// Errors: wire.ErrBadBlock, wire.ErrInboxFull, ErrFailed.
func (n *Node) PutInbox(number uint64, data []byte) (Status, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.putInbox(number, data)
	return n.Status(), err
}

func (n *Node) putInbox(number uint64, data []byte) error {
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	if _, err := parseBlock(number, data); err != nil {
		return err
	}
	if number < n.Status().Height {
		return nil
	}
	if err := n.asideStrays(number); err != nil {
		return err
	}
	if _, known := n.inbox.sizes[number]; known {
		return nil
	}
	size := inboxHeader + int64(len(data)) + 4
	if n.inbox.bytes+counted(size) > n.cfg.InboxBytes {
		return fmt.Errorf("%w: %d blocks of %d bytes are there, block %d has %d, the limit is %d; the repair of the node makes room",
			wire.ErrInboxFull, len(n.inbox.sizes), n.inbox.bytes, number, size, n.cfg.InboxBytes)
	}
	file := appendInbox(make([]byte, 0, size), number, data)
	if err := n.cfg.writeFile(n.inboxPath(number), file, 0o600); err != nil {
		return n.fail(fmt.Errorf("write %s: %w", n.inboxPath(number), err))
	}
	n.inbox.add(number, size)
	n.inbox.grow(number)
	n.publish()
	return nil
}

// asideStrays moves the files aside that do not follow a block without a gap; mu is held.
func (n *Node) asideStrays(number uint64) error {
	end := number + 1
	for ; ; end++ {
		if _, ok := n.inbox.sizes[end]; !ok {
			break
		}
	}
	if n.inbox.run.To <= end {
		return nil
	}
	for _, stray := range slices.Sorted(maps.Keys(n.inbox.sizes)) {
		if stray <= end {
			continue
		}
		n.log.Error("a file of the inbox that does not follow is moved aside", "block", stray, "after", end-1)
		if err := n.asideInbox(stray); err != nil {
			return err
		}
	}
	return nil
}

// loadInbox finds what the folder holds; what a crash left half written is removed.
func (n *Node) loadInbox() error {
	n.inbox = inbox{}
	entries, err := os.ReadDir(n.inboxDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			if err := os.Remove(filepath.Join(n.inboxDir(), name)); err != nil {
				return err
			}
			continue
		}
		digits, ok := strings.CutSuffix(name, inboxSuffix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || len(digits) != 20 || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		n.inbox.add(number, info.Size())
	}
	n.inbox.count()
	return nil
}

// drain moves blocks from the inbox to the end of the chain, as far as they follow, and removes what the chain has. A repair that
// is open keeps it from the former: the chain's end may change. mu is held.
func (n *Node) drain() error {
	if len(n.inbox.sizes) == 0 {
		return nil
	}
	if n.stopped == nil && !n.jobs.receiving() {
		if err := n.drainNext(); err != nil {
			return err
		}
	}
	height := n.Status().Height
	changed := false
	for _, number := range slices.Sorted(maps.Keys(n.inbox.sizes)) {
		if number >= height {
			break
		}
		if err := os.Remove(n.inboxPath(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n.fail(err)
		}
		n.inbox.drop(number)
		changed = true
	}
	if changed {
		n.inbox.count()
		n.publish()
	}
	return nil
}

func (n *Node) drainNext() error {
	for {
		number := n.verifier.Head().Height
		if _, ok := n.inbox.sizes[number]; !ok {
			return n.flushed()
		}
		data, err := durable.ReadFile(n.inboxPath(number))
		var block chain.Block
		if err == nil {
			data, err = parseInbox(data, number)
		}
		if err == nil {
			block, err = parseBlock(number, data)
		}
		if err == nil && block.Header.Prev != n.verifier.Head().Hash {
			return n.flushed() // the chain's end is not the group's: for a check to find out
		}
		var leaves []chain.Hash
		if err == nil {
			leaves, err = n.verifier.Take(&block)
		}
		if err != nil {
			n.log.Error("a block of the inbox is no good, and is moved aside", "block", number, "error", err)
			return errors.Join(n.flushed(), n.asideInbox(number))
		}
		if err := n.store(&block, leaves); err != nil {
			return n.fail(err)
		}
		if n.unsynced.bytes >= groupBytes || len(n.unsynced.places) >= groupBlocks {
			if err := n.flushed(); err != nil {
				return err
			}
		}
	}
}

// asideInbox moves a file of the inbox to quarantine/.
func (n *Node) asideInbox(number uint64) error {
	to, err := n.aside(filepath.Base(n.inboxPath(number)))
	if err != nil {
		return n.fail(err)
	}
	if err := os.Rename(n.inboxPath(number), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n.fail(err)
	}
	if err := errors.Join(durable.SyncDir(n.quarantineDir()), durable.SyncDir(n.inboxDir())); err != nil {
		return n.fail(err)
	}
	n.inbox.drop(number)
	n.inbox.count()
	n.publish()
	return nil
}
