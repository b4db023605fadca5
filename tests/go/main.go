// Verifies a medtrail log with golang.org/x/mod/sumdb, which knows nothing of medtrail.
//
//	verify URL VKEY [OLD-NOTE-FILE] [WITNESS-VKEY]
//
// It opens the checkpoint with the log's key, reads tiles over HTTP (its own scheme has other paths, mapped below),
// proves every entry of every bundle to be in the tree, and an older checkpoint to be of a prefix of it. It prints
// "verified <size> entries" and exits 0, or says what does not hold and exits 1.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func get(url string) []byte {
	answer, err := http.Get(url)
	if err != nil {
		fail("fetch: %v", err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		fail("fetch %s: status %d, %v", url, answer.StatusCode, err)
	}
	return content
}

// number writes a tile's index as tlog-tiles does: groups of three digits, all but the last with an x.
func number(n int64) string {
	text := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		text = fmt.Sprintf("x%03d/%s", n%1000, text)
	}
	return text
}

func partial(width int) string {
	if width == 256 {
		return ""
	}
	return ".p/" + strconv.Itoa(width)
}

// reader reads tiles of height 8 over HTTP, and keeps those that led to the root.
type reader struct {
	url   string
	known map[tlog.Tile][]byte
}

func (r reader) Height() int { return 8 }

func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	contents := make([][]byte, len(tiles))
	for i, tile := range tiles {
		if contents[i] = r.known[tile]; contents[i] != nil {
			continue
		}
		contents[i] = get(fmt.Sprintf("%s/tile/%d/%s%s", r.url, tile.L, number(tile.N), partial(tile.W)))
	}
	return contents, nil
}

func (r reader) SaveTiles(tiles []tlog.Tile, contents [][]byte) {
	for i, tile := range tiles {
		r.known[tile] = contents[i]
	}
}

// checkpoint opens a note and reads its three lines.
func checkpoint(content []byte, verifiers ...note.Verifier) (tlog.Tree, *note.Note) {
	opened, err := note.Open(content, note.VerifierList(verifiers...))
	if err != nil {
		fail("note: %v", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifiers[0].Name() {
		fail("note: expected three lines of %s, got %q", verifiers[0].Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		fail("note: %v", err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		fail("note: root %q", lines[2])
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, opened
}

// entries reads a bundle: two bytes of length, then the entry.
func entries(content []byte) [][]byte {
	var found [][]byte
	for len(content) > 0 {
		if len(content) < 2 || len(content) < 2+int(binary.BigEndian.Uint16(content)) {
			fail("bundle is cut off")
		}
		length := int(binary.BigEndian.Uint16(content))
		found = append(found, content[2:2+length])
		content = content[2+length:]
	}
	return found
}

// cosigner verifies cosignature/v1 (type 4), which the note package does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) cosigner {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		fail("witness key %q", vkey)
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	key, err2 := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || err2 != nil || len(key) != 33 || key[0] != 4 {
		fail("witness key %q", vkey)
	}
	return cosigner{parts[0], uint32(hash), key[1:]}
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 72 {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	message := append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", time)), text...)
	return ed25519.Verify(c.key, message, signature[8:])
}

func main() {
	if len(os.Args) < 3 {
		fail("usage: verify URL VKEY [OLD-NOTE-FILE] [WITNESS-VKEY]")
	}
	url := os.Args[1]
	verifier, err := note.NewVerifier(os.Args[2])
	if err != nil {
		fail("key: %v", err)
	}
	verifiers := []note.Verifier{verifier}
	if len(os.Args) > 4 {
		verifiers = append(verifiers, newCosigner(os.Args[4]))
	}
	tree, opened := checkpoint(get(url+"/checkpoint"), verifiers...)
	if len(opened.Sigs) != len(verifiers) {
		fail("note: %d of %d keys signed", len(opened.Sigs), len(verifiers))
	}
	hashes := tlog.TileHashReader(tree, reader{url, map[tlog.Tile][]byte{}})
	for first := int64(0); first < tree.N; first += 256 {
		width := min(tree.N-first, 256)
		bundle := entries(get(fmt.Sprintf("%s/tile/entries/%s%s", url, number(first/256), partial(int(width)))))
		if int64(len(bundle)) != width {
			fail("bundle %d has %d entries", first/256, len(bundle))
		}
		for i, entry := range bundle {
			index := first + int64(i)
			proof, err := tlog.ProveRecord(tree.N, index, hashes)
			if err != nil {
				fail("entry %d: %v", index, err)
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
				fail("entry %d: %v", index, err)
			}
		}
	}
	if len(os.Args) > 3 && os.Args[3] != "" {
		content, err := os.ReadFile(os.Args[3])
		if err != nil {
			fail("old note: %v", err)
		}
		old, _ := checkpoint(content, verifier)
		proof, err := tlog.ProveTree(tree.N, old.N, hashes)
		if err != nil {
			fail("consistency: %v", err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			fail("consistency: %v", err)
		}
	}
	fmt.Printf("verified %d entries\n", tree.N)
}
