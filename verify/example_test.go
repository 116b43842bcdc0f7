package verify_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/chainstore/chainstore/verify"
)

// ExampleReceipt verifies an old receipt with the log's key and the document.
func ExampleReceipt() {
	kept, key, document := keptReceipt()
	trust, err := verify.NewTrust([]string{key}, nil, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	report := verify.Receipt(kept, trust, document)
	fmt.Println("good:", report.Good(), "leaf", report.Index, "of", report.Checkpoint.Origin)

	document[0] = '['
	for _, f := range verify.Receipt(kept, trust, document).Findings {
		words, _, _ := strings.Cut(f.Text, ":")
		fmt.Println(f.Code+":", words)
	}
	// Output:
	// good: true leaf 1 of chainstore/vectors
	// payload: the payload's commitment does not fit
}

// keptReceipt returns a receipt as a client kept it, the log's key, and the document.
func keptReceipt() (receipt []byte, key string, document []byte) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		panic(err)
	}
	var v struct {
		VerifierKey string          `json:"vkey"`
		Payload     string          `json:"payload"`
		Receipt     json.RawMessage `json:"receipt"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		panic(err)
	}
	if document, err = hex.DecodeString(v.Payload); err != nil {
		panic(err)
	}
	return v.Receipt, v.VerifierKey, document
}
