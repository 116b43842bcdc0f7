package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
)

// ErrMalformed: a binary message does not have its form.
var ErrMalformed = errors.New("malformed message")

// Place names a record for [PathReadRecords]: block u64 ‖ offset u32, big endian, one after the other.
type Place struct {
	Block  uint64
	Offset uint32
}

const placeSize = 12

// ParamKnown is the parameter of [PathReadRecords] with the number of places, from the first on, whose leaf hashes the
// master knows. A storage node answers them without a path. An older node does not know the parameter and sends paths.
const ParamKnown = "known"

// MaxPlaces is the limit of records in one read.
const MaxPlaces = 1024

// MaxReadBytes bounds the answer of one read: a storage node may end it with the first record that exceeds this size.
// It answers at least the first place; the caller asks again for the rest.
const MaxReadBytes = 16 << 20

// MaxRecordBytes is the limit of a payload that masters accept, whatever their setting: a record travels and is
// committed in one piece.
const MaxRecordBytes = 16 << 20

// MaxProvenRecord is the largest size of one answer to a read, in bytes.
const MaxProvenRecord = MaxRecordBytes + chain.RecordOverhead + 2*255 + 6 + 255*chain.HashSize

// AppendPlaces adds the request's bytes to dst.
func AppendPlaces(dst []byte, places []Place) []byte {
	for _, p := range places {
		dst = binary.BigEndian.AppendUint64(dst, p.Block)
		dst = binary.BigEndian.AppendUint32(dst, p.Offset)
	}
	return dst
}

// ParsePlaces reads a request. The error wraps [ErrMalformed].
func ParsePlaces(data []byte) ([]Place, error) {
	if len(data) == 0 || len(data)%placeSize != 0 || len(data) > MaxPlaces*placeSize {
		return nil, fmt.Errorf("%w: %d bytes are no list of 1 to %d places", ErrMalformed, len(data), MaxPlaces)
	}
	places := make([]Place, len(data)/placeSize)
	for i := range places {
		at := data[i*placeSize:]
		places[i] = Place{Block: binary.BigEndian.Uint64(at), Offset: binary.BigEndian.Uint32(at[8:])}
	}
	return places, nil
}

// ReadStatus says what a storage node has of a record.
type ReadStatus uint8

// What a storage node has of a record.
const (
	ReadFound  ReadStatus = 0 // record and path follow
	ReadBehind ReadStatus = 1 // the node does not have the block yet
	ReadBeyond ReadStatus = 2 // the block has no such offset
	ReadBad    ReadStatus = 3 // the node has it, and its bytes are damaged or missing
	// ReadFailed: the node's system could not read its files now. Nothing is known about the bytes. A master that does
	// not know this status takes it for ReadBad, as every storage node answered before.
	ReadFailed ReadStatus = 4
)

// ProvenRecord answers for one place: the encoded record, and the inclusion path of its leaf in the tree up to its own
// block's last record, whose root the block's header names. The path is empty if the master knows the leaf hash.
//
//	status u8 ‖ record length u32 ‖ record ‖ path length u8 ‖ hash[32] × path length
type ProvenRecord struct {
	Status ReadStatus
	Record []byte
	Path   []chain.Hash
}

// AppendTo adds the answer's bytes to dst.
func (p *ProvenRecord) AppendTo(dst []byte) []byte {
	dst = append(dst, byte(p.Status))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Record)))
	dst = append(dst, p.Record...)
	return appendPath(dst, p.Path)
}

func appendPath(dst []byte, path []chain.Hash) []byte {
	dst = append(dst, byte(len(path)))
	for _, h := range path {
		dst = append(dst, h[:]...)
	}
	return dst
}

// ParseProvenRecord reads one answer from the start of data and returns the rest. The record points into data.
// The error wraps [ErrMalformed].
func ParseProvenRecord(data []byte) (p ProvenRecord, rest []byte, err error) {
	if len(data) < 5 {
		return p, nil, fmt.Errorf("%w: %d bytes are too few for an answer", ErrMalformed, len(data))
	}
	p.Status = ReadStatus(data[0])
	n := uint64(binary.BigEndian.Uint32(data[1:]))
	data = data[5:]
	if n > uint64(len(data)) {
		return p, nil, fmt.Errorf("%w: a record of %d bytes in %d", ErrMalformed, n, len(data))
	}
	p.Record = data[:n:n]
	p.Path, rest, err = parsePath(data[n:])
	return p, rest, err
}

func parsePath(data []byte) (path []chain.Hash, rest []byte, err error) {
	if len(data) < 1 || len(data)-1 < int(data[0])*chain.HashSize {
		return nil, nil, fmt.Errorf("%w: %d bytes are too few for a path", ErrMalformed, len(data))
	}
	path = make([]chain.Hash, data[0])
	data = data[1:]
	for i := range path {
		path[i] = chain.Hash(data[:chain.HashSize])
		data = data[chain.HashSize:]
	}
	return path, data, nil
}

// MaxHeaders is the limit of headers in one answer.
const MaxHeaders = 1024

// ProvenHeader is a header and the inclusion path of its seal in the tree of the requested size.
//
//	header[103] ‖ path length u8 ‖ hash[32] × path length
type ProvenHeader struct {
	Header chain.Header
	Path   []chain.Hash
}

// AppendTo adds the header's bytes to dst.
func (p *ProvenHeader) AppendTo(dst []byte) []byte {
	return appendPath(p.Header.AppendTo(dst), p.Path)
}

// ParseProvenHeaders reads an answer of headers to its end. The error wraps [ErrMalformed].
func ParseProvenHeaders(data []byte) ([]ProvenHeader, error) {
	var headers []ProvenHeader
	for len(data) > 0 {
		if len(headers) == MaxHeaders {
			return nil, fmt.Errorf("%w: more than %d headers", ErrMalformed, MaxHeaders)
		}
		var p ProvenHeader
		var err error
		if p.Header, err = chain.ParseHeader(data); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if p.Path, data, err = parsePath(data[chain.HeaderSize:]); err != nil {
			return nil, err
		}
		headers = append(headers, p)
	}
	return headers, nil
}
