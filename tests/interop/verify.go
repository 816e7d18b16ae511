// Verifies a published log with golang.org/x/mod/sumdb, unmodified: notes, tree heads, tiles, inclusion and consistency.
//
//	verify DIR LOG-VKEY WITNESS-VKEY... < proofs
//
// Of cosignatures x/mod knows nothing, but note.Open takes verifiers of others: cosigner is one (tlog-cosignature).
// The proofs, one a line, are ours: "inclusion INDEX HASH..." and "consistency SIZE ROOT HASH...", base64.
package main

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// cosigner verifies signatures of type 0x04.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) cosigner {
	parts := strings.SplitN(vkey, "+", 3)
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	check(err)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	check(err)
	if len(key) != 33 || key[0] != 4 {
		log.Fatal("not a cosigner's key")
	}
	return cosigner{parts[0], uint32(hash), key[1:]}
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 72 {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(c.key, []byte(signed), signature[8:])
}

// folder reads tiles as tlog-tiles names them: as x/mod does, but without the height.
type folder string

func (folder) Height() int                     { return 8 }
func (folder) SaveTiles([]tlog.Tile, [][]byte) {}
func (f folder) path(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), f.path(tile)))
		if os.IsNotExist(err) { // the full tile has replaced it
			full := tile
			full.W = 256
			data, err = os.ReadFile(filepath.Join(string(f), f.path(full)))
			if err == nil {
				data = data[:tile.W*tlog.HashSize]
			}
		}
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func open(data []byte, verifiers note.Verifiers, signatures int) tlog.Tree {
	opened, err := note.Open(data, verifiers)
	check(err)
	if len(opened.Sigs) != signatures {
		log.Fatalf("%d of %d signatures verify", len(opened.Sigs), signatures)
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	return tlog.Tree{N: size, Hash: root}
}

func hashes(fields []string) []tlog.Hash {
	var found []tlog.Hash
	for _, field := range fields {
		hash, err := tlog.ParseHash(field)
		check(err)
		found = append(found, hash)
	}
	return found
}

func main() {
	directory, keys := os.Args[1], os.Args[2:]
	logKey, err := note.NewVerifier(keys[0])
	check(err)
	verifiers := []note.Verifier{logKey}
	for _, key := range keys[1:] {
		verifiers = append(verifiers, newCosigner(key))
	}
	known := note.VerifierList(verifiers...)
	data, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	check(err)
	tree := open(data, known, len(verifiers))
	reader := tlog.TileHashReader(tree, folder(directory))

	// Every record: its hash in the tiles, and the proof that x/mod makes from them.
	var records int64
	for n := int64(0); records < tree.N; n++ {
		width := 256
		if tree.N-256*n < 256 {
			width = int(tree.N - 256*n)
		}
		bundle := folder(directory).bundle(n, width)
		for len(bundle) > 0 && records < tree.N {
			length := int(binary.BigEndian.Uint16(bundle))
			leaf := tlog.RecordHash(bundle[2 : 2+length])
			proof, err := tlog.ProveRecord(tree.N, records, reader)
			check(err)
			check(tlog.CheckRecord(proof, tree.N, tree.Hash, records, leaf))
			bundle = bundle[2+length:]
			records++
		}
	}
	kept, err := filepath.Glob(filepath.Join(directory, "checkpoints", "[0-9]*"))
	check(err)
	for _, path := range kept {
		data, err := os.ReadFile(path)
		check(err)
		older := open(data, known, len(verifiers))
		if older.N == 0 {
			continue // the empty tree is a prefix of every tree; x/mod proves nothing about it
		}
		proof, err := tlog.ProveTree(tree.N, older.N, reader)
		check(err)
		check(tlog.CheckTree(proof, tree.N, tree.Hash, older.N, older.Hash))
	}
	proofs := 0
	for input := bufio.NewScanner(os.Stdin); input.Scan(); proofs++ {
		fields := strings.Fields(input.Text())
		number, err := strconv.ParseInt(fields[1], 10, 64)
		check(err)
		switch fields[0] {
		case "inclusion":
			leaf, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, number)})
			check(err)
			check(tlog.CheckRecord(hashes(fields[2:]), tree.N, tree.Hash, number, leaf[0]))
		case "consistency":
			found := hashes(fields[2:])
			check(tlog.CheckTree(found[1:], tree.N, tree.Hash, number, found[0]))
		}
	}
	fmt.Printf("records %d, checkpoints %d, proofs %d\n", records, len(kept), proofs)
}

// bundle reads the entries of a bundle; the path is that of a tile at level 0.
func (f folder) bundle(n int64, width int) []byte {
	name := func(width int) string {
		path := f.path(tlog.Tile{H: 8, L: 0, N: n, W: width})
		return filepath.Join(string(f), strings.Replace(path, "tile/0/", "tile/entries/", 1))
	}
	data, err := os.ReadFile(name(width))
	if os.IsNotExist(err) {
		data, err = os.ReadFile(name(256))
	}
	check(err)
	return data
}
