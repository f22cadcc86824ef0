#!/usr/bin/env bash
# Makes `encoded/` anew, with the encoders of Debian 12:
#   apt-get install ffmpeg imagemagick libjpeg-turbo-progs optipng webp libavif-bin libheif-examples sox libsox-fmt-mp3 \
#     lame gifsicle libtiff-tools apngasm graphicsmagick libvips-tools espeak-ng mkvtoolnix vpx-tools \
#     gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav
# Then `python -m tests.media_corpus` writes the table anew. Test pictures, sweeps of colour and sine tones only.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf encoded && mkdir encoded && cd encoded
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ff() { ffmpeg -v error -nostdin -y "$@"; }
convert=$(command -v convert-im6.q16 || command -v convert)

PICTURE=(-f lavfi -i testsrc2=size=64x48:rate=10)
TONE=(-f lavfi -i sine=frequency=440:sample_rate=22050:duration=0.6)
FILM=("${PICTURE[@]}" "${TONE[@]}" -t 0.6)
EXACT=(-fflags +bitexact -flags:v +bitexact -flags:a +bitexact)

# Sources of the other encoders
ff "${PICTURE[@]}" -frames:v 1 -pix_fmt rgb24 "$work/a.png"
ff "${PICTURE[@]}" -frames:v 1 -pix_fmt rgba -vf "format=rgba,colorchannelmixer=aa=0.5" "$work/alpha.png"
ff "${PICTURE[@]}" -frames:v 1 -pix_fmt rgb24 "$work/a.ppm"
ff -f lavfi -i color=gray:size=64x48 -frames:v 1 -pix_fmt rgb24 "$work/flat.ppm"
ff "${PICTURE[@]}" -frames:v 4 "$work/frame%d.png"
ff "${PICTURE[@]}" -frames:v 5 "$work/film.y4m"
"$convert" -size 1200x800 xc:black "$work/black.png"
"$convert" -size 64x200 gradient: "$work/ramp.png"
sox -n -r 22050 -b 16 -c 1 "$work/tone.wav" synth 0.6 sine 440 vol 0.5

# PNG
for format in rgb24 rgba gray ya8 pal8 monob rgb48be rgba64be gray16be; do
  ff "${PICTURE[@]}" -frames:v 1 "${EXACT[@]}" -pix_fmt $format "png_ffmpeg_$format.png"
done
ff "${PICTURE[@]}" -frames:v 3 "${EXACT[@]}" -f apng -plays 0 png_ffmpeg_animated.png
cp "$work/a.png" "$work/optipng.png" && optipng -quiet -o7 "$work/optipng.png" && cp "$work/optipng.png" png_optipng.png
cp "$work/a.png" "$work/optipng_i.png" && optipng -quiet -force -i1 "$work/optipng_i.png" && cp "$work/optipng_i.png" png_optipng_interlaced.png
"$convert" "$work/a.png" -interlace PNG png_imagemagick_interlaced.png
"$convert" "$work/a.png" -colors 4 PNG8:png_imagemagick_palette.png
"$convert" -size 1x1 xc:red png_imagemagick_one_pixel.png
"$convert" "$work/a.png" -set comment "a comment" -define png:compression-level=0 png_imagemagick_stored.png
apngasm png_apngasm_animated.png "$work/frame1.png" 1 10 >/dev/null

# JPEG
ff "${PICTURE[@]}" -frames:v 1 "${EXACT[@]}" -q:v 5 -pix_fmt yuvj420p jpg_ffmpeg_420.jpg
ff "${PICTURE[@]}" -frames:v 1 "${EXACT[@]}" -q:v 5 -pix_fmt yuvj444p -huffman default jpg_ffmpeg_444.jpg
cjpeg -quality 75 "$work/a.ppm" > jpg_cjpeg.jpg
cjpeg -quality 75 -optimize "$work/a.ppm" > jpg_cjpeg_optimized.jpg
cjpeg -quality 75 -progressive "$work/a.ppm" > jpg_cjpeg_progressive.jpg
cjpeg -quality 75 -arithmetic "$work/a.ppm" > jpg_cjpeg_arithmetic.jpg
cjpeg -quality 75 -grayscale "$work/a.ppm" > jpg_cjpeg_gray.jpg
cjpeg -quality 75 -restart 1 "$work/a.ppm" > jpg_cjpeg_restart.jpg
cjpeg -quality 75 -sample 1x2 "$work/a.ppm" > jpg_cjpeg_440.jpg
cjpeg -rgb "$work/a.ppm" > jpg_cjpeg_rgb.jpg
cjpeg -optimize "$work/flat.ppm" > jpg_cjpeg_flat.jpg
cjpeg -optimize -progressive "$work/flat.ppm" > jpg_cjpeg_flat_progressive.jpg
jpegtran -flip horizontal -progressive jpg_cjpeg.jpg > jpg_jpegtran.jpg
"$convert" "$work/a.png" -quality 80 -colorspace CMYK jpg_imagemagick_cmyk.jpg
"$convert" "$work/a.png" -quality 80 -interlace Plane jpg_imagemagick_plane.jpg

# WebP
cwebp -quiet "$work/a.png" -o webp_cwebp.webp
cwebp -quiet -lossless "$work/a.png" -o webp_cwebp_lossless.webp
cwebp -quiet "$work/alpha.png" -o webp_cwebp_alpha.webp
cwebp -quiet -lossless "$work/alpha.png" -o webp_cwebp_lossless_alpha.webp
cwebp -quiet -segments 1 -partition_limit 0 -m 0 "$work/a.png" -o webp_cwebp_fast.webp
ff "${PICTURE[@]}" -frames:v 1 -c:v libwebp webp_ffmpeg.webp
"$convert" "$work/a.png" -set comment x -quality 60 webp_imagemagick.webp
img2webp -loop 0 -d 100 -lossy "$work/frame1.png" "$work/frame2.png" -o webp_img2webp_animated.webp >/dev/null 2>&1

# GIF
ff "${PICTURE[@]}" -frames:v 3 "${EXACT[@]}" gif_ffmpeg_animated.gif
"$convert" "$work/a.png" gif_imagemagick.gif
"$convert" "$work/a.png" -interlace GIF gif_imagemagick_interlaced.gif
gifsicle -O3 gif_ffmpeg_animated.gif -o gif_gifsicle.gif
gifsicle --no-warnings -U --colors 16 gif_ffmpeg_animated.gif -o gif_gifsicle_colors.gif

# BMP, TIFF
ff "${PICTURE[@]}" -frames:v 1 -pix_fmt bgr24 -vf scale=32:24 bmp_ffmpeg.bmp
ff "${PICTURE[@]}" -frames:v 1 -pix_fmt pal8 bmp_ffmpeg_palette.bmp
"$convert" "$work/a.png" -resize 32x24 BMP2:bmp_imagemagick_2.bmp
"$convert" "$work/a.png" -resize 32x24 BMP3:bmp_imagemagick_3.bmp
"$convert" "$work/alpha.png" -resize 32x24 bmp_imagemagick_4.bmp
"$convert" "$work/a.png" -colors 16 -compress RLE BMP3:bmp_imagemagick_rle.bmp
for compression in packbits lzw deflate; do
  ff "${PICTURE[@]}" -frames:v 1 -compression_algo $compression -pix_fmt rgb24 tiff_ffmpeg_$compression.tiff
done
"$convert" "$work/a.png" -compress None -resize 32x24 tiff_imagemagick.tiff
"$convert" "$work/a.png" -compress Zip -endian MSB tiff_imagemagick_zip_big_endian.tiff
"$convert" "$work/a.png" -compress JPEG tiff_imagemagick_jpeg.tiff
tiffcp -c lzw -t -w 16 -l 16 tiff_imagemagick.tiff tiff_tiffcp_tiled.tiff
tiffcp tiff_imagemagick.tiff tiff_tiffcp_tiled.tiff tiff_tiffcp_pages.tiff

# AVIF, HEIC
avifenc -s 8 "$work/a.png" avif_avifenc.avif >/dev/null
avifenc -s 8 "$work/alpha.png" avif_avifenc_alpha.avif >/dev/null
avifenc -s 8 -l "$work/a.png" avif_avifenc_lossless.avif >/dev/null
avifenc -s 8 -d 10 -y 422 "$work/a.png" avif_avifenc_10_bits.avif >/dev/null
avifenc -s 8 "$work/frame1.png" "$work/frame2.png" avif_avifenc_sequence.avif >/dev/null
ff -f lavfi -i testsrc2=size=64x64 -frames:v 1 "$work/s1.png"
avifenc -s 8 --grid 2x1 "$work/s1.png" "$work/s1.png" avif_avifenc_grid.avif >/dev/null
ff "${PICTURE[@]}" -frames:v 1 -c:v libaom-av1 -still-picture 1 -cpu-used 8 avif_ffmpeg.avif
ff "${PICTURE[@]}" -frames:v 3 -c:v libaom-av1 -cpu-used 8 -pix_fmt yuv420p avif_ffmpeg_sequence.avif
heif-enc -A "$work/a.png" -o avif_heif_enc.avif >/dev/null
heif-enc "$work/a.png" -o heic_heif_enc.heic >/dev/null
heif-enc -q 90 -t 32 "$work/a.png" -o heic_heif_enc_thumbnail.heic >/dev/null
heif-enc "$work/alpha.png" -o heic_heif_enc_alpha.heic >/dev/null
heif-enc -L "$work/a.png" -o heic_heif_enc_lossless.heic >/dev/null

# MP4 and MOV
X264=(-c:v libx264 -preset veryfast -pix_fmt yuv420p)
AAC=(-c:a aac -b:a 32k)
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" "${AAC[@]}" mp4_x264_aac.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" "${AAC[@]}" -movflags +faststart mp4_x264_aac_faststart.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" "${AAC[@]}" -movflags frag_keyframe+empty_moov mp4_x264_fragmented.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" -g 2 "${AAC[@]}" -movflags frag_keyframe+empty_moov+default_base_moof -f mp4 - > mp4_x264_fragmented_pipe.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" -g 2 "${AAC[@]}" -movflags cmaf+global_sidx+frag_keyframe mp4_x264_cmaf.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" "${AAC[@]}" -movflags hybrid_fragmented mp4_x264_hybrid.mp4 2>/dev/null || rm -f mp4_x264_hybrid.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" -an mp4_x264_silent.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" -an -brand avc1 -movflags +use_metadata_tags -metadata title=test mp4_x264_metadata.mp4
ff "${FILM[@]}" "${EXACT[@]}" -c:v libx265 -preset ultrafast -x265-params log-level=none -tag:v hvc1 "${AAC[@]}" mp4_x265_hvc1.mp4
ff "${FILM[@]}" "${EXACT[@]}" -c:v libx265 -preset ultrafast -x265-params log-level=none -an mp4_x265_hev1.mp4
ff "${FILM[@]}" "${EXACT[@]}" -c:v libaom-av1 -cpu-used 8 -an mp4_aom.mp4
ff "${FILM[@]}" "${EXACT[@]}" -c:v libvpx-vp9 -cpu-used 8 -c:a libopus mp4_vp9_opus.mp4
ff "${FILM[@]}" "${EXACT[@]}" -c:v mpeg4 -c:a libmp3lame mp4_mpeg4_mp3.mp4
ff "${FILM[@]}" "${EXACT[@]}" -vn "${AAC[@]}" -f mp4 mp4_sound_only.mp4
ff "${FILM[@]}" "${EXACT[@]}" -vn -c:a alac -f ipod mp4_alac.mp4
ff "${FILM[@]}" "${EXACT[@]}" "${X264[@]}" "${AAC[@]}" mov_x264_aac.mov
ff "${FILM[@]}" "${EXACT[@]}" -c:v mjpeg -q:v 20 -c:a pcm_s16le -ar 8000 -t 0.2 mov_mjpeg_pcm.mov
ff "${FILM[@]}" "${EXACT[@]}" -c:v prores_ks -an -t 0.1 mov_prores.mov
ff "${FILM[@]}" "${EXACT[@]}" -c:v qtrle -an -t 0.2 -vf scale=32:24 mov_qtrle.mov
ff "${FILM[@]}" "${EXACT[@]}" -vn -c:a adpcm_ima_qt -ar 8000 mov_ima4.mov

# WebM
ff "${FILM[@]}" "${EXACT[@]}" -c:v libvpx -b:v 100k -cpu-used 8 -c:a libvorbis webm_vp8_vorbis.webm
ff "${FILM[@]}" "${EXACT[@]}" -c:v libvpx-vp9 -b:v 100k -cpu-used 8 -c:a libopus webm_vp9_opus.webm
ff "${FILM[@]}" "${EXACT[@]}" -c:v libvpx-vp9 -b:v 100k -cpu-used 8 -c:a libopus -f webm - > webm_vp9_pipe.webm
ff "${FILM[@]}" "${EXACT[@]}" -c:v libvpx-vp9 -b:v 100k -cpu-used 8 -an -live 1 webm_vp9_live.webm
ff "${FILM[@]}" "${EXACT[@]}" -c:v libaom-av1 -cpu-used 8 -an -cluster_time_limit 200 webm_aom_clusters.webm
ff "${FILM[@]}" "${EXACT[@]}" -vn -c:a libopus webm_sound_only.webm
ff "${FILM[@]}" "${EXACT[@]}" -c:v libvpx-vp9 -pix_fmt yuva420p -cpu-used 8 -an -auto-alt-ref 0 webm_vp9_alpha.webm

# MP3
lame --quiet -b 64 "$work/tone.wav" mp3_lame.mp3
lame --quiet -V 6 "$work/tone.wav" mp3_lame_vbr.mp3
lame --quiet --abr 48 -t "$work/tone.wav" mp3_lame_without_info.mp3
lame --quiet -b 320 --freeformat "$work/tone.wav" mp3_lame_free.mp3
lame --quiet -b 8 --resample 8 "$work/tone.wav" mp3_lame_8_khz.mp3
lame --quiet -b 32 --tt title --ta artist --add-id3v2 "$work/tone.wav" mp3_lame_tags.mp3
lame --quiet -b 32 -p "$work/tone.wav" mp3_lame_crc.mp3
ff "${TONE[@]}" -c:a libmp3lame -b:a 32k -id3v2_version 3 -write_id3v1 1 -metadata title=test mp3_ffmpeg_id3.mp3
ff "${TONE[@]}" -c:a libmp3lame -b:a 32k -write_xing 0 -id3v2_version 0 mp3_ffmpeg_bare.mp3
ff "${TONE[@]}" -c:a libmp3lame -q:a 7 -ar 44100 -ac 2 -f mp3 - > mp3_ffmpeg_pipe.mp3
sox "$work/tone.wav" -C 32.01 mp3_sox.mp3

# WAV
SHORT=(-f lavfi -i sine=frequency=440:sample_rate=8000:duration=0.15)
sox -n -r 8000 -b 16 -c 1 wav_sox.wav synth 0.15 sine 440
sox -n -r 8000 -b 8 -c 1 wav_sox_8_bits.wav synth 0.1513 sine 440
sox -n -r 8000 -b 24 -c 2 wav_sox_24_bits.wav synth 0.1 sine 440
sox -n -r 8000 -b 16 -c 1 -t wav - synth 0.15 sine 440 2>/dev/null | cat > wav_sox_pipe.wav
sox -n -r 8000 -b 16 -c 1 wav_sox_silence.wav trim 0 0.1
ff "${SHORT[@]}" "${EXACT[@]}" wav_ffmpeg.wav
ff "${SHORT[@]}" wav_ffmpeg_list.wav
ff "${SHORT[@]}" "${EXACT[@]}" -f wav - | cat > wav_ffmpeg_pipe.wav
ff "${SHORT[@]}" "${EXACT[@]}" -rf64 always wav_ffmpeg_rf64.wav
ff "${SHORT[@]}" "${EXACT[@]}" -c:a pcm_f32le wav_ffmpeg_float.wav
ff "${SHORT[@]}" "${EXACT[@]}" -c:a adpcm_ms wav_ffmpeg_adpcm.wav
ff "${SHORT[@]}" "${EXACT[@]}" -c:a pcm_mulaw wav_ffmpeg_mulaw.wav
ff "${SHORT[@]}" "${EXACT[@]}" -c:a libmp3lame -ar 16000 wav_ffmpeg_mp3.wav
# Others
cwebp -quiet -lossless -m 0 "$work/ramp.png" -o webp_cwebp_ramp.webp
cwebp -quiet -q 1 "$work/black.png" -o webp_cwebp_black.webp
gm convert "$work/a.png" jpg_graphicsmagick.jpg
gm convert "$work/a.png" png_graphicsmagick.png
vips copy "$work/a.png" "jpg_vips_progressive.jpg[optimize_coding,interlace]"
vips copy "$work/a.png" "tiff_vips_pyramid.tiff[tile,pyramid,compression=jpeg]"
espeak-ng --stdout hm | head -c 6044 > wav_espeak_pipe.wav
gst() { timeout 60 gst-launch-1.0 -q "$@"; }
TEST=(videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48)
gst "${TEST[@]}" ! x264enc ! mp4mux ! filesink location=mp4_gstreamer.mp4
gst "${TEST[@]}" ! x264enc key-int-max=2 ! h264parse ! mp4mux fragment-duration=80 streamable=true ! filesink location=mp4_gstreamer_fragments.mp4
gst "${TEST[@]}" ! jpegenc ! qtmux ! filesink location=mov_gstreamer_jpeg.mov
gst "${TEST[@]}" ! vp8enc ! webmmux streamable=true ! filesink location=webm_gstreamer.webm
gst audiotestsrc num-buffers=20 ! lamemp3enc ! xingmux ! filesink location=mp3_gstreamer_xing.mp3
gst audiotestsrc num-buffers=4 ! wavenc ! fdsink fd=1 > wav_gstreamer_pipe.wav
mkvmerge -q -w -o webm_mkvmerge.webm webm_vp9_opus.webm
vpxenc --quiet --codec=vp9 --cpu-used=8 --rt -o webm_vpxenc.webm "$work/film.y4m"
du -sb . && find . -type f | wc -l
