package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// mark says which entry is the newest. The file "mark" has two slots, at its start and at byte 512, each within one
// sector. They are written in turn, so that a valid one is left where a write does not reach the disk:
//
//	slot = "CSLM" ‖ version u8 ‖ zero × 3 ‖ number u64 ‖ base u64 ‖ index u64 ‖ term u64 ‖ sum u32
//	       ‖ CRC-32C u32 of everything before it
//
// The slot with the higher number counts; even numbers are in the first slot. A slot that was never written is zero.
// Index and term are those of the newest entry, 0 for an empty log. The sum is the CRC-32C of the checksums of the
// entries from base to index. Base is the first entry of the segment at the time of writing, or index + 1 if the sum
// is of no entry.
type mark struct {
	number, base, index, term uint64
	sum                       uint32
}

const (
	markBytes   = 48
	slotBytes   = 512
	markVersion = 1
	slots       = 2
)

var markMagic = []byte("CSLM")

func markPath(dir string) string { return filepath.Join(dir, "mark") }

func (m mark) encode() []byte {
	b := append(append([]byte(nil), markMagic...), markVersion, 0, 0, 0)
	for _, v := range []uint64{m.number, m.base, m.index, m.term} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, m.sum)
	return binary.BigEndian.AppendUint32(b, durable.Checksum(b))
}

// parseMark reads a slot. written is false for one that is zero.
func parseMark(slot []byte) (m mark, written bool, err error) {
	b := slot[:markBytes]
	if [markBytes]byte(b) == [markBytes]byte{} {
		return m, false, nil
	}
	want, got := binary.BigEndian.Uint32(b[markBytes-4:]), durable.Checksum(b[:markBytes-4])
	switch {
	case string(b[:4]) != string(markMagic) || want != got:
		return m, false, fmt.Errorf("%w: its checksum is %08x, its bytes have %08x", durable.ErrDamaged, want, got)
	case b[4] > markVersion:
		return m, false, durable.NewerVersion(int(b[4]), markVersion)
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(b[8+8*i:]) }
	return mark{number: number(0), base: number(1), index: number(2), term: number(3),
		sum: binary.BigEndian.Uint32(b[40:])}, true, nil
}

// readMark reads both slots and returns the newer one. The error names the file.
func readMark(dir string) (newest mark, err error) {
	path := markPath(dir)
	data, err := durable.ReadFile(path)
	if err != nil {
		return newest, err
	}
	if len(data) != slots*slotBytes {
		return newest, fmt.Errorf("%s: %w: it has %d bytes, not %d (%s)", path, durable.ErrDamaged, len(data),
			slots*slotBytes, raftconfig.Remedy)
	}
	found := false
	for i := range slots {
		m, written, err := parseMark(data[i*slotBytes:])
		if err == nil && written && m.number%slots != uint64(i) {
			err = fmt.Errorf("%w: it is number %d", durable.ErrDamaged, m.number)
		}
		if err != nil {
			return newest, fmt.Errorf("%s: slot %d: %w (%s)", path, i, err, raftconfig.Remedy)
		}
		if written && (!found || m.number > newest.number) {
			newest, found = m, true
		}
	}
	if !found {
		return newest, fmt.Errorf("%s: %w: it has no mark (%s)", path, durable.ErrDamaged, raftconfig.Remedy)
	}
	return newest, nil
}

// add makes l the newest entry.
func (m *mark) add(l *raft.Log) {
	var b [20]byte
	binary.BigEndian.PutUint64(b[:], l.Index)
	binary.BigEndian.PutUint64(b[8:], l.Term)
	copy(b[16:], l.Extensions)
	m.sum = addSum(m.sum, b[:])
	m.index, m.term = l.Index, l.Term
}

// addSum continues a sum.
func addSum(sum uint32, b []byte) uint32 {
	var before [4]byte
	binary.BigEndian.PutUint32(before[:], sum)
	return durable.Checksum(before[:], b)
}

// markFile is the open file. It is not for concurrent use.
type markFile struct {
	file *os.File
	last mark
	disk disk
}

// write writes a mark, into the slot that does not have the last one. It does not sync.
func (f *markFile) write(m mark) error {
	m.number = f.last.number + 1
	err := f.disk.do("write", f.file.Name(), func() error {
		_, err := f.file.WriteAt(m.encode(), int64(m.number%slots*slotBytes))
		return err
	})
	if err != nil {
		return err
	}
	f.last = m
	return nil
}

// writeSynced writes a mark and syncs it.
func (f *markFile) writeSynced(m mark) error {
	if err := f.write(m); err != nil {
		return err
	}
	return f.sync()
}

func (f *markFile) sync() error {
	return f.disk.do("sync", f.file.Name(), func() error { return syncData(f.file) })
}

// checkMark follows the entries of a log, in their order, and says in the end whether the marked ones are there.
type checkMark struct {
	mark
	first, last uint64 // entries of the log
	found       mark   // sums the entries from base on
	sums        bool   // the entries were seen from base on
	seen        bool   // the entry of the mark was seen
	err         error
}

func (c *checkMark) visit(l *raft.Log) {
	if l.Index == c.base {
		c.sums, c.found.sum = true, 0
	}
	if l.Index > c.index {
		return
	}
	c.found.add(l)
	if l.Index < c.index {
		return
	}
	c.seen = true
	switch {
	case l.Term != c.term:
		c.err = fmt.Errorf("entry %d has term %d, the mark says %d", l.Index, l.Term, c.term)
	case c.sums && c.base <= c.index && c.found.sum != c.sum:
		c.err = fmt.Errorf("entries %d to %d are not those that were stored", c.base, c.index)
	}
}

// end returns an error if the log lacks marked entries. Entries in front of it were trimmed.
func (c *checkMark) end() error {
	switch {
	case c.err != nil:
		return c.err
	case c.index == 0, c.index < c.first, c.seen:
		return nil
	case c.last == 0:
		return fmt.Errorf("the log is empty, and entry %d was stored", c.index)
	case c.index > c.last:
		return fmt.Errorf("the log ends with entry %d, and entry %d was stored", c.last, c.index)
	}
	return errors.New("the marked entry was not read")
}
