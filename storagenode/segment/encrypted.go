package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// Sizes of an encrypted segment, in bytes.
const (
	headerPage = 4096           // one copy of the header
	headers    = 2              // copies
	framesAt   = 2 * headerPage // where frames begin
	nameSize   = 16             // of the part of a header that names the file
	ChunkBytes = 4096           // of a block that is one message
	sealedSize = ChunkBytes + atrest.Overhead
)

// encryptedFormat is the format of one copy of the header.
var encryptedFormat = durable.Format{Magic: format.Magic, Version: 2, Zeros: format.Zeros}

// encrypted is a segment whose frames hold encrypted blocks. Reads and writes of the File are those of the bytes on
// disk.
type encrypted struct {
	File
	key *atrest.DataKey
}

// DropCache drops the page cache as the file does.
func (e *encrypted) DropCache(offset, length int64) error {
	if c, ok := e.File.(interface {
		DropCache(offset, length int64) error
	}); ok {
		return c.DropCache(offset, length)
	}
	return nil
}

// keyOf returns the data key of a segment, nil if it is not encrypted.
func keyOf(file io.ReaderAt) *atrest.DataKey {
	if e, ok := file.(*encrypted); ok {
		return e.key
	}
	return nil
}

// IsEncrypted reports whether an open segment is encrypted.
func IsEncrypted(file io.ReaderAt) bool { return keyOf(file) != nil }

// Start returns the offset at which the frames of an open segment begin.
func Start(file io.ReaderAt) int64 {
	if keyOf(file) != nil {
		return framesAt
	}
	return HeaderSize
}

// IsStart reports whether frames begin at an offset, in one of the two kinds of segments.
func IsStart(offset int64) bool { return offset == HeaderSize || offset == framesAt }

// WithKeys returns an [OpenFunc] that decrypts. A segment that it opens, whole or [NewSuffix], yields the blocks of its
// frames whether it is encrypted or not; all other files are opened as open does. The error wraps [atrest.ErrNoKey] if
// keys does not have the key of a segment.
func WithKeys(open OpenFunc, keys *atrest.Ring) OpenFunc {
	return func(path string, flag int) (File, error) {
		f, err := open(path, flag)
		if err != nil || !strings.HasSuffix(strings.TrimSuffix(path, NewSuffix), suffix) || flag&os.O_TRUNC != 0 {
			return f, err
		}
		return decrypting(f, path, keys)
	}
}

// OpenAny opens a file that may be a segment, or begin with the header of one, whatever its name is.
func OpenAny(path string, flag int, keys *atrest.Ring) (File, error) {
	f, err := OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	return decrypting(f, path, keys)
}

// decrypting returns an open file, as an encrypted segment if it is one. It closes the file on an error.
func decrypting(f File, path string, keys *atrest.Ring) (File, error) {
	key, err := unlock(f, keys)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	if key == nil {
		return f, nil
	}
	return &encrypted{File: f, key: key}, nil
}

// unlock returns the data key of a segment: nil if it is not encrypted, or no copy of its header is good. The error
// wraps [atrest.ErrNoKey], or is the disk's, if it hides with keys whether the segment is encrypted.
func unlock(file io.ReaderAt, keys *atrest.Ring) (*atrest.DataKey, error) {
	var noKey, unread error
	for i := range headers {
		key, err := readPage(file, i).unlock(keys)
		switch {
		case err == nil:
			return key, nil
		case errors.Is(err, atrest.ErrNoKey):
			noKey = err
		case i == 0 && isPlain(file):
			return nil, nil
		case durable.CannotRead(err) && keys.Has() && (i == 0 || unread != nil || hasEncryptedMagicAt(file, 0)):
			unread = err
		default:
			unread = nil // this copy says that there is none, or is damaged as well
		}
	}
	if noKey != nil {
		return nil, noKey
	}
	return nil, unread
}

// hasEncryptedMagicAt reports whether the copy of a header at an offset begins with the magic of an encrypted segment.
func hasEncryptedMagicAt(file io.ReaderAt, at int64) bool {
	var start [nameSize]byte
	n, err := file.ReadAt(start[:], at)
	return (err == nil || err == io.EOF) && hasEncryptedMagic(start[:n])
}

// isPlain reports whether a file begins with the magic and version of a segment that is not encrypted.
func isPlain(file io.ReaderAt) bool {
	var start [nameSize]byte
	n, err := file.ReadAt(start[:], 0)
	return (err == nil || err == io.EOF) && format.CheckHeader(start[:n]) == nil
}

// hasEncryptedMagic reports whether a file begins with the magic and version of an encrypted segment.
func hasEncryptedMagic(data []byte) bool {
	n := len(encryptedFormat.Magic)
	return len(data) > n && string(data[:n]) == encryptedFormat.Magic && data[n] == encryptedFormat.Version
}

// page is one copy of a header.
type page struct {
	first  uint64
	name   []byte // what names the file in it
	header []byte // of the data key
	err    error  // why it is not good: the disk's, or wraps durable.ErrDamaged or durable.ErrNewerFormat
}

// readPage reads one copy of the header.
func readPage(file io.ReaderAt, number int) page {
	buf := make([]byte, headerPage)
	n, err := file.ReadAt(buf, int64(number)*headerPage)
	if err != nil && err != io.EOF {
		return page{err: err}
	}
	return decodePage(buf[:n])
}

// decodePage decodes one copy of the header.
func decodePage(data []byte) (p page) {
	p.err = encryptedFormat.Decode(data, func(f *durable.Fields) {
		p.first = f.Uint64()
		p.header = slices.Clone(f.Fixed(atrest.HeaderSize))
		if len(data) != headerPage {
			f.Fail(fmt.Errorf("%d bytes, %d are due", len(data), headerPage))
		}
		for _, b := range f.Bytes(f.Len()) {
			if b != 0 {
				f.Fail(errors.New("there are bytes behind its key"))
			}
		}
	})
	if p.err == nil {
		p.name = slices.Clone(data[:nameSize])
	}
	return p
}

func (p page) unlock(keys *atrest.Ring) (*atrest.DataKey, error) {
	if p.err != nil {
		return nil, p.err
	}
	return keys.Unwrap(p.header, p.name)
}

// fileName returns the part of a header that names the file.
func fileName(first uint64) []byte {
	return binary.BigEndian.AppendUint64(encryptedFormat.AppendHeader(nil), first)
}

// encodePage returns one copy of a header.
func encodePage(first uint64, header []byte) []byte {
	body := binary.BigEndian.AppendUint64(nil, first)
	zeros := make([]byte, headerPage-nameSize-len(header)-4)
	return encryptedFormat.Append(make([]byte, 0, headerPage), body, header, zeros)
}

// checkPages checks both copies of the header of an encrypted segment.
func checkPages(e *encrypted, first uint64) error {
	for i := range headers {
		p := readPage(e.File, i)
		switch {
		case p.err != nil && !errors.Is(p.err, durable.ErrDamaged) && !errors.Is(p.err, durable.ErrNewerFormat):
			return p.err
		case p.err != nil: // not a newer format, as the other copy is good
			return fmt.Errorf("%w: copy %d of its header: %v", durable.ErrDamaged, i+1, p.err)
		case p.first != first:
			return fmt.Errorf("%w: its header names block %d as the first, its file name block %d",
				durable.ErrDamaged, p.first, first)
		}
	}
	return nil
}

// restorePages writes each copy of a header that is not good again from the other one.
func restorePages(e *encrypted, first uint64) error {
	var good []byte
	for i := range headers {
		if p := readPage(e.File, i); p.err == nil && p.first == first {
			good = encodePage(first, p.header)
		}
	}
	if good == nil {
		return nil // its blocks are damaged: a repair writes the segment again
	}
	for i := range headers {
		if p := readPage(e.File, i); p.err == nil && p.first == first {
			continue
		}
		if err := writePage(e.File, i, good); err != nil {
			return err
		}
	}
	return nil
}

func writePage(f File, number int, page []byte) error {
	if _, err := f.WriteAt(page, int64(number)*headerPage); err != nil {
		return err
	}
	return f.Sync()
}

// Rewrap writes both copies of the header of an open segment again under the current key, unless they are or one cannot
// be read. The first is synced before the second is written, so that one of them is good at any time. The error is that
// of a write.
func Rewrap(file File, keys *atrest.Ring) (changed bool, err error) {
	e, ok := file.(*encrypted)
	if !ok {
		return false, nil
	}
	var pages [headers]page
	stale := false
	for i := range pages {
		if pages[i] = readPage(e.File, i); pages[i].err != nil {
			return false, nil // a check writes it again first
		}
		stale = stale || atrest.IDOf(pages[i].header) != keys.Current()
	}
	if !stale {
		return false, nil
	}
	first := pages[0].first
	next := encodePage(first, keys.Wrap(e.key, fileName(first)))
	for i := range pages {
		if err := writePage(e.File, i, next); err != nil {
			return false, fmt.Errorf("write the header of the segment of block %d: %w", first, err)
		}
	}
	return true, nil
}

// KeyIDs returns the ids of the keys that a segment's header needs: none if it is not encrypted, and more than one only
// while its header is being written again. encrypted reports whether it is encrypted.
func KeyIDs(file io.ReaderAt) (ids []atrest.ID, encrypted bool) {
	for i := range headers {
		if p := readPage(file, i); p.err == nil {
			encrypted = true
			if id := atrest.IDOf(p.header); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, encrypted
}

// storedLength returns the length of the frame content of a block of so many bytes.
func storedLength(key *atrest.DataKey, block int) int {
	if key == nil {
		return block
	}
	return block + (block+ChunkBytes-1)/ChunkBytes*atrest.Overhead
}

// BlockLength returns the length of the block in a frame of an open segment whose content has so many bytes, 0 if it
// can hold none.
func BlockLength(file io.ReaderAt, length uint32) uint32 {
	if keyOf(file) == nil {
		return length
	}
	chunks := (length + sealedSize - 1) / sealedSize
	if last := length - min(length, (chunks-min(chunks, 1))*sealedSize); last <= atrest.Overhead {
		return 0
	}
	return length - chunks*atrest.Overhead
}

// chunkName is the additional data of a chunk: where it is. Its file has a key of its own.
func chunkName(dst []byte, offset int64, blockLength, chunk uint32) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	dst = binary.BigEndian.AppendUint32(dst, blockLength)
	return binary.BigEndian.AppendUint32(dst, chunk)
}

// sealBlock appends the frame content of a block to dst. offset is that of the frame.
func sealBlock(dst []byte, key *atrest.DataKey, block []byte, offset int64) []byte {
	if key == nil {
		return append(dst, block...)
	}
	var name [nameSize]byte
	dst = slices.Grow(dst, storedLength(key, len(block)))
	length := uint32(len(block))
	for chunk := uint32(0); len(block) > 0; chunk++ {
		n := min(len(block), ChunkBytes)
		dst = key.Seal(dst, block[:n], chunkName(name[:0], offset, length, chunk))
		block = block[n:]
	}
	return dst
}

// openChunks decrypts consecutive chunks of a frame in their own memory, the first of which has that number, and
// returns the plain text, which is part of data. The error wraps [durable.ErrDamaged].
func openChunks(key *atrest.DataKey, data []byte, offset int64, blockLength, chunk uint32) ([]byte, error) {
	var name [nameSize]byte
	size := 0
	for rest := data; len(rest) > 0; chunk++ {
		n := min(len(rest), sealedSize)
		plain, err := key.Open(rest[:n], chunkName(name[:0], offset, blockLength, chunk))
		if err != nil {
			return nil, fmt.Errorf("chunk %d of the frame at offset %d: %w", chunk, offset, err)
		}
		size += copy(data[size:], plain)
		rest = rest[n:]
	}
	return data[:size], nil
}

// OpenContent returns the block in a frame's content, which it may destroy. The error wraps [durable.ErrDamaged].
func OpenContent(file io.ReaderAt, content []byte, offset int64) ([]byte, error) {
	key := keyOf(file)
	if key == nil {
		return content, nil
	}
	length := BlockLength(file, uint32(len(content)))
	if length == 0 {
		return nil, fmt.Errorf("%w: %d bytes at offset %d cannot be an encrypted block",
			durable.ErrDamaged, len(content), offset)
	}
	return openChunks(key, content, offset, length, 0)
}

// chunkBuffers holds the memory of [ReadPart], pointers to byte slices.
var chunkBuffers = sync.Pool{New: func() any { return new([]byte) }}

// ReadPart reads part of a block into p, from a byte of the block on. The block's frame is at an offset, and its
// content has length bytes. It is one read of the file. Nothing but the encryption, if there is one, is checked. The
// error wraps [durable.ErrDamaged], is io.EOF if the file ends before, or is the disk's.
func ReadPart(file io.ReaderAt, p []byte, offset int64, length uint32, at int64) error {
	key := keyOf(file)
	if key == nil {
		_, err := file.ReadAt(p, offset+FrameHeader+at)
		return err
	}
	blockLength := BlockLength(file, length)
	if at < 0 || at+int64(len(p)) > int64(blockLength) {
		return fmt.Errorf("%w: bytes %d to %d of the block at offset %d, which has %d",
			durable.ErrDamaged, at, at+int64(len(p)), offset, blockLength)
	}
	if len(p) == 0 {
		return nil
	}
	from, to := at/ChunkBytes, (at+int64(len(p))-1)/ChunkBytes+1
	begin, end := from*sealedSize, min(to*sealedSize, int64(length))
	buf := chunkBuffers.Get().(*[]byte)
	defer chunkBuffers.Put(buf)
	*buf = slices.Grow((*buf)[:0], int(end-begin))[:end-begin]
	if _, err := file.ReadAt(*buf, offset+FrameHeader+begin); err != nil {
		return err
	}
	plain, err := openChunks(key, *buf, offset, blockLength, uint32(from))
	if err != nil {
		return err
	}
	copy(p, plain[at-from*ChunkBytes:])
	return nil
}

// IsUnfinished reports whether a file whose header is damaged is an encrypted segment whose creation a crash has cut
// short: it has no frame.
func IsUnfinished(file io.ReaderAt, size int64) bool {
	if size > framesAt {
		return false
	}
	data := make([]byte, size)
	if _, err := file.ReadAt(data, 0); err != nil && err != io.EOF {
		return false
	}
	isZero := func(list []byte) bool { return !slices.ContainsFunc(list, func(b byte) bool { return b != 0 }) }
	if !hasEncryptedMagic(data) && !isZero(data[:min(len(data), nameSize)]) {
		return false
	}
	const used = nameSize + atrest.HeaderSize // what follows are zeros, which a frame has not
	for number := range headers {
		from := number*headerPage + used
		to := (number+1)*headerPage - 4
		if to = min(to, len(data)); from < to && !isZero(data[from:to]) {
			return false
		}
	}
	return true
}

// FileHeader returns the header of an encrypted segment, so that bytes of the file that are kept elsewhere can be
// decrypted; nil if the segment is not encrypted or cannot be read.
func FileHeader(file io.ReaderAt) []byte {
	if keyOf(file) == nil {
		return nil
	}
	header := make([]byte, framesAt)
	if _, err := file.ReadAt(header, 0); err != nil {
		return nil
	}
	return header
}
