package snapfile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// KeyFile is the name of the file with the data key, in the folder of the snapshot.
const KeyFile = "state.key"

const (
	chunkBytes = 64 << 10 // of the state that are one message
	sealedSize = chunkBytes + atrest.Overhead
)

var (
	stateFormat = durable.Format{Magic: "CSSE", Version: 1, Zeros: 3}
	keyFormat   = durable.Format{Magic: "CSSK", Version: 1, Zeros: 3, Remedy: raftconfig.Remedy}
)

const headerBytes = 8

// keyName is what names a snapshot in the header of its data key.
func keyName(id string) []byte { return append(keyFormat.AppendHeader(nil), id...) }

// chunkName is the additional data of a chunk.
func chunkName(number uint64, last bool) []byte {
	name := binary.BigEndian.AppendUint64(make([]byte, 0, 9), number)
	if last {
		return append(name, 1)
	}
	return append(name, 0)
}

// Writer encrypts a state. It is not for concurrent use.
type Writer struct {
	to     io.Writer
	key    *atrest.DataKey
	number uint64 // of the next chunk
	text   []byte // of that chunk
	sealed []byte
}

// Create writes the data key of a snapshot into its folder, and returns a writer of its state to a file. The key is
// durable. Where the error can be retried, there is no file with it.
func Create(dir, id string, ring *atrest.Ring, to io.Writer) (*Writer, error) {
	key, header := ring.NewKey(keyName(id))
	if err := keyFormat.Write(filepath.Join(dir, KeyFile), header); err != nil {
		return nil, err
	}
	return &Writer{
		to: to, key: key, text: make([]byte, 0, chunkBytes), sealed: stateFormat.AppendHeader(nil),
	}, nil
}

// Write encrypts the next bytes.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(w.text) == chunkBytes {
			if err := w.flush(false); err != nil {
				return n, err
			}
		}
		count := min(len(p), chunkBytes-len(w.text))
		w.text = append(w.text, p[:count]...)
		p, n = p[count:], n+count
	}
	return n, nil
}

// Close writes what is left. It does not close the file.
func (w *Writer) Close() error { return w.flush(true) }

// flush writes the present chunk. In front of the first one is the header.
func (w *Writer) flush(last bool) error {
	w.sealed = w.key.Seal(w.sealed, w.text, chunkName(w.number, last))
	_, err := w.to.Write(w.sealed)
	w.number++
	w.text, w.sealed = w.text[:0], w.sealed[:0]
	return err
}

// PlainSize returns the size of a state whose encrypted file has so many bytes.
func PlainSize(stored int64) int64 {
	chunks := stored - headerBytes
	return max(0, chunks-(chunks+sealedSize-1)/sealedSize*atrest.Overhead)
}

// reader decrypts a state.
type reader struct {
	from   *bufio.Reader
	key    *atrest.DataKey
	number uint64 // of the next chunk
	ended  bool   // the last chunk was read
	sealed []byte
	text   []byte // that was decrypted and not read
}

// Open returns a reader of the state in the file of a snapshot, whether it is encrypted or not. The error names the
// file with the key. It wraps [atrest.ErrNoKey] or [durable.ErrDamaged], or is that of a read. The errors of the reader
// wrap [durable.ErrDamaged], or are those of the file.
func Open(dir, id string, ring *atrest.Ring, from io.Reader) (state io.Reader, encrypted bool, err error) {
	in := bufio.NewReader(from)
	start, err := in.Peek(headerBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	if !isHeader(start) {
		return in, false, nil
	}
	if err := stateFormat.CheckHeader(start); err != nil {
		return nil, true, err
	}
	path := filepath.Join(dir, KeyFile)
	header, err := readKey(path)
	if err != nil {
		return nil, true, err
	}
	key, err := ring.Unwrap(header, keyName(id))
	if err != nil {
		return nil, true, fmt.Errorf("%s: %w", path, err)
	}
	_, _ = in.Discard(headerBytes) // they were read
	return &reader{from: in, key: key, sealed: make([]byte, sealedSize)}, true, nil
}

// isHeader reports whether a file that begins with some bytes is encrypted.
func isHeader(start []byte) bool { return bytes.HasPrefix(start, []byte(stateFormat.Magic)) }

// readKey reads a file with a data key. The error wraps [durable.ErrDamaged] also if it is missing.
func readKey(path string) (header []byte, err error) {
	err = keyFormat.Read(path, func(f *durable.Fields) { header = slices.Clone(f.Fixed(atrest.HeaderSize)) })
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w: it is missing, and has the key of the snapshot (%s)", path, durable.ErrDamaged,
			raftconfig.Remedy)
	}
	return header, err
}

// Read reads decrypted bytes.
func (r *reader) Read(p []byte) (int, error) {
	for len(r.text) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

// next decrypts the next chunk.
func (r *reader) next() error {
	n, err := io.ReadFull(r.from, r.sealed)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	last := err != nil
	if !last {
		_, err := r.from.Peek(1)
		if last = errors.Is(err, io.EOF); err != nil && !last {
			return err
		}
	}
	if r.text, err = r.key.Open(r.sealed[:n], chunkName(r.number, last)); err != nil {
		return fmt.Errorf("chunk %d: %w", r.number, err)
	}
	r.number, r.ended = r.number+1, last
	return nil
}

// CheckKey returns an error that wraps [atrest.ErrNoKey] and names the file if the snapshot in a folder needs a key
// that the operator's do not have. It says nothing about damage.
func CheckKey(dir string, ring *atrest.Ring) error {
	path := filepath.Join(dir, KeyFile)
	if header, err := readKey(path); err == nil {
		if err := ring.CheckKey(atrest.IDOf(header)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// Rewrap encrypts the data key of the snapshot in a folder with the operator's current key, unless it is. A folder
// without a key has nothing to change. An error is that of a write if changed is true, else the key cannot be read.
func Rewrap(dir, id string, ring *atrest.Ring) (changed bool, err error) {
	path := filepath.Join(dir, KeyFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	header, err := readKey(path)
	if err != nil || atrest.IDOf(header) == ring.Current() {
		return false, err
	}
	key, err := ring.Unwrap(header, keyName(id))
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, keyFormat.Write(path, ring.Wrap(key, keyName(id)))
}

// KeyOf returns the id of the operator's key that the snapshot in a folder needs. encrypted is false for one in clear,
// whose state is in the file with that name. It needs no key.
func KeyOf(dir, stateFile string) (id atrest.ID, encrypted bool, err error) {
	file, err := durable.OpenFile(filepath.Join(dir, stateFile), os.O_RDONLY, 0)
	if err != nil {
		return id, false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	start := make([]byte, headerBytes)
	if n, err := io.ReadFull(file, start); err != nil {
		start = start[:n]
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return id, false, err
		}
	}
	if !isHeader(start) {
		return id, false, nil
	}
	header, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return id, true, err
	}
	return atrest.IDOf(header), true, nil
}
