//go:build race

package testmode

const raceDetector = true
