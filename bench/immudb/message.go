package immudb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Wire types of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/).
const (
	wireVarint = 0
	wireFixed8 = 1
	wireBytes  = 2
	wireFixed4 = 5
)

var errMessage = errors.New("the message is malformed")

// message is an encoded message.
type message []byte

func (m message) number(field int, v uint64) message {
	if v == 0 {
		return m
	}
	m = binary.AppendUvarint(m, uint64(field)<<3|wireVarint)
	return binary.AppendUvarint(m, v)
}

// bytes appends a field of bytes, text or a message.
func (m message) bytes(field int, v []byte) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|wireBytes)
	m = binary.AppendUvarint(m, uint64(len(v)))
	return append(m, v...)
}

// uvarint cuts a number off the front.
func (m *message) uvarint() (uint64, error) {
	v, n := binary.Uvarint(*m)
	if n <= 0 {
		return 0, errMessage
	}
	*m = (*m)[n:]
	return v, nil
}

// cut cuts n bytes off the front.
func (m *message) cut(n uint64) (message, error) {
	if n > uint64(len(*m)) {
		return nil, errMessage
	}
	head := (*m)[:n]
	*m = (*m)[n:]
	return head, nil
}

// each calls visit with each field: with its number, or with its bytes, which are a part of m. Fields of a fixed length
// are skipped. It ends with the first error.
func (m message) each(visit func(field int, number uint64, bytes message) error) error {
	for len(m) > 0 {
		tag, err := m.uvarint()
		if err != nil {
			return err
		}
		var number uint64
		var bytes message
		switch tag & 7 {
		case wireVarint:
			number, err = m.uvarint()
		case wireBytes:
			if number, err = m.uvarint(); err == nil {
				bytes, err = m.cut(number)
			}
		case wireFixed8:
			_, err = m.cut(8)
		case wireFixed4:
			_, err = m.cut(4)
		default:
			err = fmt.Errorf("%w: wire type %d", errMessage, tag&7)
		}
		if err != nil {
			return err
		}
		if tag&7 == wireFixed8 || tag&7 == wireFixed4 {
			continue
		}
		if err := visit(int(tag>>3), number, bytes); err != nil {
			return err
		}
	}
	return nil
}

// Numbers of the fields that are used.
const (
	sessionUser, sessionPassword, sessionDatabase = 1, 2, 3 // OpenSessionRequest
	sessionID                                     = 1       // OpenSessionResponse
	databaseName, databaseSettings                = 1, 2    // CreateDatabaseRequest
	settingEntries, settingConcurrency            = 11, 13  // DatabaseNullableSettings
	numberValue                                   = 1       // NullableUint32
	setPair                                       = 1       // SetRequest
	pairKey, pairValue                            = 1, 2    // KeyValue
	getKey, getSince                              = 1, 2    // VerifiableGetRequest: KeyRequest, proveSinceTx
	requestKey                                    = 1       // KeyRequest
	answerEntry, answerTx, answerInclusion        = 1, 2, 3 // VerifiableEntry
	txDualProof                                   = 2       // VerifiableTx
	dualSource, dualTarget, dualInclusion         = 1, 2, 3 // DualProof
	inclusionLeaf, inclusionWidth, inclusionTerm  = 1, 2, 3 // InclusionProof
	entryTx, entryValue                           = 1, 3    // Entry
	entryReference, entryMetadata                 = 4, 5    // Entry
	headerID, headerPrevious, headerTime          = 1, 2, 3 // TxHeader
	headerEntries, headerEntryRoot                = 4, 5    // TxHeader
	headerTreeSize, headerTreeRoot                = 6, 7    // TxHeader: blTxId, blRoot
	headerVersion, headerMetadata                 = 8, 9    // TxHeader
)

// hash is a SHA-256 hash.
type hash [32]byte

func (h *hash) decode(b message) error {
	if len(b) != len(h) {
		return fmt.Errorf("%w: a hash of %d bytes", errMessage, len(b))
	}
	copy(h[:], b)
	return nil
}

// Header is the header of a transaction.
type Header struct {
	ID        uint64
	previous  hash
	time      uint64 // two's complement
	entries   uint64
	entryRoot hash   // of the tree of the entries
	treeSize  uint64 // number of transactions in the tree, from ID 1 on
	treeRoot  hash
	version   uint64
}

func (h *Header) decode(m message) error {
	return m.each(func(field int, number uint64, bytes message) error {
		switch field {
		case headerID:
			h.ID = number
		case headerPrevious:
			return h.previous.decode(bytes)
		case headerTime:
			h.time = number
		case headerEntries:
			h.entries = number
		case headerEntryRoot:
			return h.entryRoot.decode(bytes)
		case headerTreeSize:
			h.treeSize = number
		case headerTreeRoot:
			return h.treeRoot.decode(bytes)
		case headerVersion:
			h.version = number
		case headerMetadata:
			if len(bytes) > 0 {
				return errors.New("the transaction has metadata, which this client does not verify")
			}
		}
		return nil
	})
}

// answer is what a server answers to a verifiable get.
type answer struct {
	tx             uint64 // that has set the value
	value          []byte // a part of the message
	leaf, width    uint64 // place of the entry in its transaction, and the number of entries
	inEntries      []hash // proof of the entry in its transaction
	source, target Header // the earlier transaction and the later one
	inTree         []hash // proof of the earlier one in the tree of the later one
}

func (a *answer) decode(m message) error {
	return m.each(func(field int, _ uint64, bytes message) error {
		switch field {
		case answerEntry:
			return bytes.each(a.entry)
		case answerTx:
			return bytes.each(func(field int, _ uint64, bytes message) error {
				if field != txDualProof {
					return nil
				}
				return bytes.each(a.dualProof)
			})
		case answerInclusion:
			return bytes.each(a.inclusion)
		}
		return nil
	})
}

func (a *answer) entry(field int, number uint64, bytes message) error {
	switch field {
	case entryTx:
		a.tx = number
	case entryValue:
		a.value = bytes
	case entryReference, entryMetadata:
		if len(bytes) > 0 {
			return errors.New("the entry is a reference or has metadata, which this client does not verify")
		}
	}
	return nil
}

func (a *answer) dualProof(field int, _ uint64, bytes message) error {
	switch field {
	case dualSource:
		return a.source.decode(bytes)
	case dualTarget:
		return a.target.decode(bytes)
	case dualInclusion:
		return appendHash(&a.inTree, bytes)
	}
	return nil
}

func (a *answer) inclusion(field int, number uint64, bytes message) error {
	switch field {
	case inclusionLeaf:
		a.leaf = number
	case inclusionWidth:
		a.width = number
	case inclusionTerm:
		return appendHash(&a.inEntries, bytes)
	}
	return nil
}

func appendHash(to *[]hash, bytes message) error {
	var h hash
	err := h.decode(bytes)
	*to = append(*to, h)
	return err
}
