package records

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sort"
	"syscall"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// run is one file, open to read. It is not changed.
type run struct {
	head
	layout
	path string
	file *os.File
}

// openRun opens a file and checks its header and its length. The error wraps ErrDamaged, atrest.ErrNoKey or
// durable.ErrNewerFormat, or is the disk's.
func openRun(path string, keys *atrest.Ring) (*run, error) {
	f, err := durable.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, durable.ErrNotFile) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	r := &run{path: path, file: f}
	if r.layout, err = readLayout(f, keys); err == nil {
		r.head, err = r.readHead(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return r, nil
}

// readLayout reads the key of a run, if it is encrypted.
func readLayout(f *os.File, keys *atrest.Ring) (layout, error) {
	data := make([]byte, encryptedHead)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return layout{}, err
	}
	return parseLayout(data[:n], keys)
}

// readHead reads the header of a run and checks the length of the file.
func (l *layout) readHead(f *os.File) (h head, err error) {
	data := make([]byte, headerSize+l.overhead())
	n, err := f.ReadAt(data, l.headAt())
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	if data, err = l.open(data[:n], l.headAt()); err != nil {
		return h, fmt.Errorf("%w: the header of a run: %w", ErrDamaged, err)
	}
	if h, err = parseHead(data); err != nil {
		return h, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != l.size(&h) {
		err = fmt.Errorf("%w: a file of %d bytes, %d are due", ErrDamaged, info.Size(), l.size(&h))
	}
	return h, err
}

// leaves returns the number of leaves that the run covers.
func (r *run) leaves() uint64 { return r.end - r.first }

// cursor reads the entries of one section of a run, chunk by chunk. It belongs to one goroutine.
type cursor struct {
	run   *run
	at    int64 // of the section
	count uint32

	buf   [chunkSize + atrest.Overhead]byte
	text  []byte // in buf
	chunk int64  // the one in buf, -1 for none
}

func (c *cursor) open(r *run, section int) {
	c.run, c.at, c.count, c.chunk = r, r.headAt()+headerSize+r.overhead(), r.counts[section], -1
	for i := range section {
		c.at += r.sectionSize(r.counts[i])
	}
}

// entry reads an entry by its number, which must be below count. Any error wraps ErrDamaged.
func (c *cursor) entry(i uint32) (entry, error) {
	chunk := int64(i) / perChunk
	if chunk != c.chunk {
		if err := c.load(chunk); err != nil {
			return entry{}, err
		}
	}
	return parseEntry(c.text[int64(i)%perChunk*entrySize:]), nil
}

func (c *cursor) load(chunk int64) error {
	c.chunk = -1
	entries := min(perChunk, int64(c.count)-chunk*perChunk)
	data, at := c.buf[:entries*entrySize+4+c.run.overhead()], c.at+chunk*c.run.stride()
	_, err := c.run.file.ReadAt(data, at)
	if err == nil {
		data, err = c.run.layout.open(data, at)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, c.run.path, err)
	}
	body := data[:len(data)-4]
	if durable.Checksum(body) != binary.BigEndian.Uint32(data[len(body):]) {
		return fmt.Errorf("%w: the checksum of chunk %d of the section at %d in %s is wrong",
			ErrDamaged, chunk, c.at, c.run.path)
	}
	c.chunk, c.text = chunk, body
	return nil
}

// search finds the first entry that is not before e; count if there is none.
func (c *cursor) search(e entry) (i uint32, err error) {
	n := sort.Search(int(c.count), func(i int) bool {
		if err != nil {
			return true
		}
		var at entry
		at, err = c.entry(uint32(i))
		return at.compare(e) >= 0
	})
	return uint32(n), err
}

// check reads the whole run. It checks the checksums and the order of the entries.
func (r *run) check() error {
	if err := r.checkKey(); err != nil {
		return err
	}
	h, err := r.readHead(r.file)
	if err == nil && h != r.head {
		err = errors.New("it is not the one that was written")
	}
	if err != nil {
		return fmt.Errorf("%w: the header of %s: %w", ErrDamaged, r.path, err)
	}
	same, _, err := durable.AtPath(r.file, r.path)
	if err != nil {
		return err
	}
	if !same {
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
			if i > 0 && e.compare(before) < 0 {
				return fmt.Errorf("%w: entry %d of section %d in %s is out of order", ErrDamaged, i, section, r.path)
			}
			before = e
		}
	}
	return nil
}

// checkKey checks the key header of an encrypted run.
func (r *run) checkKey() error {
	if r.key == nil {
		return nil
	}
	data := make([]byte, encryptedHead)
	_, err := r.file.ReadAt(data, 0)
	if err == nil {
		err = encryptedFormat.Decode(data, func(f *durable.Fields) { _ = f.Bytes(f.Len()) })
	}
	if err != nil {
		return fmt.Errorf("%w: the key header of %s: %w", ErrDamaged, r.path, err)
	}
	return nil
}

// newSuffix marks a file that is not complete yet.
const newSuffix = ".new"

// writeRun writes a run's file, encrypted with keys, and opens it. Each source must return as many entries as the head
// says.
func writeRun(dir string, keys *atrest.Ring, h head, sources [sections]iter.Seq2[entry, error]) (*run, error) {
	path := runPath(dir, &h)
	if err := durable.MkdirAll(dir); err != nil { // it may have been removed
		return nil, err
	}
	f, err := durable.OpenFile(path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	l, start := newLayout(keys, h.from)
	w := &runWriter{layout: l, to: bufio.NewWriterSize(f, 1<<16), at: int64(len(start))}
	if _, err = w.to.Write(start); err == nil {
		err = w.write(h.appendTo(nil))
	}
	for section := 0; section < sections && err == nil; section++ {
		err = w.section(h.counts[section], sources[section])
	}
	if err == nil {
		err = w.to.Flush()
	}
	if err == nil {
		err = os.Rename(path+newSuffix, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(path+newSuffix))
	}
	return &run{head: h, layout: l, path: path, file: f}, nil
}

// runWriter writes the header and the chunks of a run one after the other.
type runWriter struct {
	layout
	to  *bufio.Writer
	at  int64 // the offset in the file
	buf []byte
}

func (w *runWriter) write(text []byte) error {
	w.buf = w.seal(w.buf[:0], text, w.at)
	w.at += int64(len(w.buf))
	_, err := w.to.Write(w.buf)
	return err
}

func (w *runWriter) section(count uint32, entries iter.Seq2[entry, error]) error {
	buf := make([]byte, 0, chunkSize)
	written := uint32(0)
	for e, err := range entries {
		if err != nil {
			return err
		}
		buf = appendEntry(buf, e)
		if written++; len(buf) == perChunk*entrySize || written == count {
			if err := w.write(binary.BigEndian.AppendUint32(buf, durable.Checksum(buf))); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	if written != count {
		return fmt.Errorf("%w: %d entries where %d are due", ErrDamaged, written, count)
	}
	return nil
}

// mergeRuns merges consecutive runs into one.
func mergeRuns(dir string, keys *atrest.Ring, runs []*run) (*run, error) {
	last := runs[len(runs)-1]
	h := head{from: runs[0].from, to: last.to, first: runs[0].first, end: last.end, last: last.last}
	var sources [sections]iter.Seq2[entry, error]
	for section := range sections {
		for _, r := range runs {
			h.counts[section] += r.counts[section]
		}
		sources[section] = merged(runs, section)
	}
	return writeRun(dir, keys, h, sources)
}

// merging is one of the runs that are merged.
type merging struct {
	cursor cursor
	shift  uint32 // added to places, so that they count from the first run's first leaf
	at     uint32
	entry  entry // the next, if at is not the end
}

// merged returns the entries of one section of several runs in order.
func merged(runs []*run, section int) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		parts := make([]merging, len(runs))
		for i, r := range runs {
			parts[i].shift = uint32(r.first - runs[0].first)
			parts[i].cursor.open(r, section)
			if err := parts[i].load(section); err != nil {
				yield(entry{}, err)
				return
			}
		}
		for {
			var first *merging
			for i := range parts {
				p := &parts[i]
				if p.at < p.cursor.count && (first == nil || p.entry.compare(first.entry) < 0) {
					first = p
				}
			}
			if first == nil || !yield(first.entry, nil) {
				return
			}
			first.at++
			if err := first.load(section); err != nil {
				yield(entry{}, err)
				return
			}
		}
	}
}

// load reads the next entry, if there is one.
func (r *merging) load(section int) (err error) {
	if r.at == r.cursor.count {
		return nil
	}
	if r.entry, err = r.cursor.entry(r.at); err != nil {
		return err
	}
	if section == byProject {
		r.entry.tag += uint64(r.shift)
	} else {
		r.entry.value += r.shift
	}
	return nil
}
