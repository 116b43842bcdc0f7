package records

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/chainstore/chainstore/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// run is one file, open to read. It is not changed.
type run struct {
	head
	path string
	file *os.File
}

// openRun opens a file and looks at its header and its length. The error wraps ErrDamaged or ErrNewerFormat, or is the disk's.
func openRun(path string) (*run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &run{path: path, file: f}
	if r.head, err = readHead(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return r, nil
}

func readHead(f *os.File) (h head, err error) {
	data := make([]byte, headerSize)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	if h, err = parseHead(data[:n]); err != nil {
		return h, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != h.size() {
		err = fmt.Errorf("%w: a file of %d bytes, %d are due", ErrDamaged, info.Size(), h.size())
	}
	return h, err
}

// leaves is how many leaves the run spans.
func (r *run) leaves() uint64 { return r.end - r.first }

// cursor reads the entries of one section of a run, chunk by chunk. It belongs to one goroutine.
type cursor struct {
	run   *run
	at    int64 // of the section
	count uint32

	buf   [chunkSize]byte
	chunk int64 // that buf holds, -1 for none
}

func (c *cursor) open(r *run, section int) {
	c.run, c.at, c.count, c.chunk = r, headerSize, r.counts[section], -1
	for i := range section {
		c.at += sectionSize(r.counts[i])
	}
}

// entry reads the entry of a number below count. The error wraps ErrDamaged, whatever kept it from being read.
func (c *cursor) entry(i uint32) (entry, error) {
	chunk := int64(i) / perChunk
	if chunk != c.chunk {
		if err := c.load(chunk); err != nil {
			return entry{}, err
		}
	}
	return parseEntry(c.buf[int64(i)%perChunk*entrySize:]), nil
}

func (c *cursor) load(chunk int64) error {
	c.chunk = -1
	entries := min(perChunk, int64(c.count)-chunk*perChunk)
	data := c.buf[:entries*entrySize+4]
	if _, err := c.run.file.ReadAt(data, c.at+chunk*chunkSize); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, c.run.path, err)
	}
	body := data[:len(data)-4]
	if segment.Checksum(body) != binary.BigEndian.Uint32(data[len(body):]) {
		return fmt.Errorf("%w: wrong checksum of chunk %d of the section at %d in %s", ErrDamaged, chunk, c.at, c.run.path)
	}
	c.chunk = chunk
	return nil
}

// search finds the first entry that is not before e; count where there is none.
func (c *cursor) search(e entry) (i uint32, err error) {
	n := sort.Search(int(c.count), func(i int) bool {
		if err != nil {
			return true
		}
		var at entry
		at, err = c.entry(uint32(i))
		return !at.before(e)
	})
	return uint32(n), err
}

// check reads the whole run: sums, and that entries ascend.
func (r *run) check() error {
	if h, err := readHead(r.file); err != nil || h != r.head {
		return fmt.Errorf("%w: the header of %s: %w", ErrDamaged, r.path, errors.Join(errors.New("it is not the one that was written"), err))
	}
	mine, err := r.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(r.path); err != nil || !os.SameFile(mine, there) {
		return fmt.Errorf("%w: %s was removed or replaced", ErrDamaged, r.path)
	}
	var c cursor
	for section := range sections {
		c.open(r, section)
		var before entry
		for i := range c.count {
			e, err := c.entry(i)
			if err != nil {
				return err
			}
			if i > 0 && e.before(before) {
				return fmt.Errorf("%w: entry %d of section %d in %s is out of order", ErrDamaged, i, section, r.path)
			}
			before = e
		}
	}
	return nil
}

// newSuffix marks a file that is not whole yet.
const newSuffix = ".new"

// sectionSource gives a section's entries in order; ok is false behind the last.
type sectionSource func() (e entry, ok bool, err error)

// writeRun writes a run's file and opens it. Each source must give as many entries as the head counts.
func writeRun(dir string, h head, sources [sections]sectionSource) (*run, error) {
	path := runPath(dir, &h)
	if err := durable.MkdirAll(dir); err != nil { // somebody may have removed it
		return nil, err
	}
	f, err := os.OpenFile(path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(f, 1<<16)
	_, err = w.Write(h.appendTo(nil))
	for section := 0; section < sections && err == nil; section++ {
		err = writeSection(w, h.counts[section], sources[section])
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = os.Rename(path+newSuffix, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(path+newSuffix))
	}
	return &run{head: h, path: path, file: f}, nil
}

func writeSection(w io.Writer, count uint32, next sectionSource) error {
	buf := make([]byte, 0, chunkSize)
	for i := range count {
		e, ok, err := next()
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %d entries where %d are due", ErrDamaged, i, count)
		}
		buf = appendEntry(buf, e)
		if len(buf) == perChunk*entrySize || i == count-1 {
			if _, err := w.Write(binary.BigEndian.AppendUint32(buf, segment.Checksum(buf))); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}

// mergeRuns makes one run of two that follow each other.
func mergeRuns(dir string, a, b *run) (*run, error) {
	h := head{from: a.from, to: b.to, first: a.first, end: b.end, last: b.last}
	shift := uint32(b.first - a.first)
	var sources [sections]sectionSource
	for section := range sections {
		h.counts[section] = a.counts[section] + b.counts[section]
		sources[section] = mergeSections(a, b, section, shift)
	}
	return writeRun(dir, h, sources)
}

// mergeSections gives the entries of two runs in order; shift is added to the places of the second.
func mergeSections(a, b *run, section int, shift uint32) sectionSource {
	var cursors [2]cursor
	cursors[0].open(a, section)
	cursors[1].open(b, section)
	var at [2]uint32
	var held [2]entry
	var have [2]bool
	fill := func(i int) error {
		if have[i] || at[i] == cursors[i].count {
			return nil
		}
		e, err := cursors[i].entry(at[i])
		if err != nil {
			return err
		}
		if i == 1 && section == byProject {
			e.tag += uint64(shift)
		} else if i == 1 {
			e.value += shift
		}
		at[i]++
		held[i], have[i] = e, true
		return nil
	}
	return func() (entry, bool, error) {
		if err := errors.Join(fill(0), fill(1)); err != nil {
			return entry{}, false, err
		}
		i := 0
		if !have[0] || have[1] && held[1].before(held[0]) {
			i = 1
		}
		ok := have[i]
		have[i] = false
		return held[i], ok, nil
	}
}
