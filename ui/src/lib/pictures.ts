// Pictures that are put beside a question: made smaller than any model looks at, and as small ones to be kept and shown.
const LARGEST = 1536 // pixels of the longer side
const SHOWN = 192

export interface Picture {
  /** What is sent. */
  url: string
  /** What is shown and kept. */
  small: string
}

/** Raises where the browser cannot read the file as a picture. */
export async function readPicture(file: Blob): Promise<Picture> {
  const bitmap = await createImageBitmap(file) // the right way up
  try {
    return { url: drawn(bitmap, LARGEST, 'image/png'), small: drawn(bitmap, SHOWN, 'image/png') }
  } finally {
    bitmap.close()
  }
}

function drawn(bitmap: ImageBitmap, longest: number, kind: string): string {
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height))
  const canvas = document.createElement('canvas')
  canvas.width = Math.max(1, Math.round(bitmap.width * scale))
  canvas.height = Math.max(1, Math.round(bitmap.height * scale))
  canvas.getContext('2d')!.drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  return canvas.toDataURL(kind)
}

/** The files of a drop or a paste that are pictures. */
export function picturesIn(transfer: DataTransfer | null): File[] {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith('image/'))
}
