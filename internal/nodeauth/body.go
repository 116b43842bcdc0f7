package nodeauth

import (
	"crypto/sha256"
	"hash"
	"io"
)

// checkedBody hashes what is read. Before it returns the last bytes, or the end where the length is not known, it calls
// check with the digest. An error of check replaces them.
type checkedBody struct {
	io.ReadCloser
	left  int64 // -1 where the length is not known
	sum   hash.Hash
	check func(digest []byte) error
	ended error // what further reads return
}

func newCheckedBody(body io.ReadCloser, length int64, check func(digest []byte) error) *checkedBody {
	return &checkedBody{ReadCloser: body, left: length, sum: sha256.New(), check: check}
}

// Read implements [io.Reader].
func (b *checkedBody) Read(p []byte) (int, error) {
	if b.ended != nil {
		return 0, b.ended
	}
	n, err := b.ReadCloser.Read(p)
	b.sum.Write(p[:n])
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if b.left == 0 || err == io.EOF {
		// A body that ends early is reported as such by its reader, or does not have the digest.
		if failed := b.check(b.sum.Sum(nil)); failed != nil {
			b.ended = failed
			return 0, failed
		}
		b.ended, b.left = io.EOF, -1
		return n, err
	}
	return n, err
}
