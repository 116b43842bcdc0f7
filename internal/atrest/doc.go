// Package atrest encrypts files of data folders with keys of the operator.
//
// A [Ring] holds the operator's keys. They encrypt no data: each file has a random [DataKey], which is in the header of
// the file, encrypted with the ring's first key. So a new key of the operator needs new headers only.
//
//	header   key id[8] ‖ salt[32] ‖ AES-256-GCM(data key[32]) ‖ tag[16]
//	         key: HKDF-SHA256(secret: the operator's key, salt: salt,
//	                          info: "chainstore at-rest data key v1", 32 bytes)
//	         nonce: 12 zero bytes; additional data: context ‖ key id ‖ salt
//	message  nonce[12] ‖ AES-256-GCM(plain text) ‖ tag[16]
//	         key: the data key; the nonce is random; additional data: of the caller
//
// The context of a header names the file: its magic, version and number. The key of a header is derived from a random
// salt and used once, so its nonce may be constant. Nonces of messages are random: a data key encrypts the messages of
// one file, fewer than 2^20, and NIST SP 800-38D allows 2^32. Decision 32 has the reasons.
//
// A damaged header or message wraps [durable.ErrDamaged]. A key that is not in the ring is not damage: see [ErrNoKey].
package atrest
